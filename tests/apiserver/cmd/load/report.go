package main

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"google.golang.org/grpc/status"
)

// tally is what one caller saw.
type tally struct {
	times  []time.Duration // of successes
	failed []time.Duration
	errors map[string]int
	sample map[string]string
	wrong  int
}

func newTally() *tally {
	return &tally{errors: map[string]int{}, sample: map[string]string{}}
}

func (t *tally) add(took time.Duration, err error) {
	if err == nil {
		t.times = append(t.times, took)
		return
	}
	t.failed = append(t.failed, took)
	if errors.Is(err, errWrong) {
		t.wrong++
	}
	name := nameOf(err)
	t.errors[name]++
	if _, seen := t.sample[name]; !seen {
		t.sample[name] = err.Error()
	}
}

func nameOf(err error) string {
	if code, ok := status.FromError(err); ok {
		return code.Code().String()
	}
	if errors.Is(err, errWrong) {
		return "WrongAnswer"
	}
	return "Other"
}

type report struct {
	Calls    int               `json:"calls"`
	OK       int               `json:"ok"`
	Wrong    int               `json:"wrong"`
	Checked  int               `json:"checkedAfterwards"`
	Errors   map[string]int    `json:"errors"`
	Examples map[string]string `json:"examples"`
	Seconds  float64           `json:"seconds"`
	Rate     float64           `json:"rate"` // successes a second
	Times    times             `json:"microseconds"`
	Failed   times             `json:"failedMicroseconds"`
	CPU      float64           `json:"clientCPUSeconds"`
}

type times struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func newReport(tallies []*tally, elapsed, cpu time.Duration) *report {
	r := &report{
		Errors: map[string]int{}, Examples: map[string]string{}, Seconds: elapsed.Seconds(), CPU: cpu.Seconds(),
	}
	var good, bad []time.Duration
	for _, t := range tallies {
		good = append(good, t.times...)
		bad = append(bad, t.failed...)
		r.Wrong += t.wrong
		for name, count := range t.errors {
			r.Errors[name] += count
			r.Examples[name] = t.sample[name]
		}
	}
	r.OK, r.Calls = len(good), len(good)+len(bad)
	r.Rate = float64(r.OK) / elapsed.Seconds()
	r.Times, r.Failed = newTimes(good), newTimes(bad)
	return r
}

func (r *report) note(name string, err error) {
	r.Errors[name]++
	r.Examples[name] = err.Error()
}

func newTimes(all []time.Duration) times {
	if len(all) == 0 {
		return times{}
	}
	slices.Sort(all)
	at := func(share float64) float64 {
		return float64(all[min(int(share*float64(len(all))), len(all)-1)].Nanoseconds()) / 1000
	}
	return times{P50: at(0.50), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
