package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// maxUnderWay bounds the calls of an open loop that have not ended; a plugin that falls behind further fails the rest.
const maxUnderWay = 10_000

var errBehind = errors.New("too many calls under way")

// closedLoop lets each caller start its next call when its last one has ended.
func closedLoop(ctx context.Context, do call, callers, calls int) []*tally {
	var started atomic.Int64
	tallies := make([]*tally, callers)
	var group sync.WaitGroup
	for i := range tallies {
		tallies[i] = newTally()
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(started.Add(1)) - 1
				if calls > 0 && n >= calls {
					return
				}
				begin := time.Now()
				err := do(n)
				tallies[i].add(time.Since(begin), err)
			}
		})
	}
	group.Wait()
	return tallies
}

// openLoop starts calls at a fixed rate. A call's time counts from when it was due, so that a plugin which stalls is
// charged for the calls that it kept from starting.
func openLoop(ctx context.Context, do call, rate float64, calls int) []*tally {
	all := newTally()
	var mutex sync.Mutex
	var underWay atomic.Int64
	var group sync.WaitGroup
	record := func(due time.Time, err error) {
		mutex.Lock()
		all.add(time.Since(due), err)
		mutex.Unlock()
	}
	interval := time.Duration(float64(time.Second) / rate)
	ticker := time.NewTicker(max(interval, time.Millisecond))
	defer ticker.Stop()
	begin := time.Now()
	for n := 0; ; {
		for due := begin.Add(time.Duration(n) * interval); !due.After(time.Now()); due = begin.Add(time.Duration(n) * interval) {
			if ctx.Err() != nil || (calls > 0 && n >= calls) {
				group.Wait()
				return []*tally{all}
			}
			if underWay.Load() >= maxUnderWay {
				record(due, errBehind)
			} else {
				index := n
				underWay.Add(1)
				group.Go(func() {
					defer underWay.Add(-1)
					record(due, do(index))
				})
			}
			n++
		}
		select {
		case <-ctx.Done():
			group.Wait()
			return []*tally{all}
		case <-ticker.C:
		}
	}
}
