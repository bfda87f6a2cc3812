// Command load puts a plugin under load as kube-apiserver would, over one connection, checks every answer against
// what it must be, and prints one JSON object. It exits with 1 if an answer was wrong, or if nothing was measured.
//
// Two uses beside measuring: -save keeps what was encrypted, so that a later run can -load it and decrypt across a
// restart of the plugin; -echo measures a server that sends each request back, for comparison.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"time"

	"keystead.dev/tests/apiserver/internal/kms"
)

type options struct {
	socket, authority, version, operation string
	echo                                  bool
	save, load                            string
	seeds, callers, calls, sample         int
	duration, timeout                     time.Duration
	rate                                  float64
}

func parseOptions() options {
	var o options
	flag.StringVar(&o.socket, "socket", "", "the plugin's socket, unix:///path or unix:///@name")
	flag.StringVar(&o.authority, "authority", string(kms.Localhost), "the :authority header: localhost, or path as old clients send")
	flag.StringVar(&o.version, "api", "v2", "version of the KMS API: v2 or v1beta1")
	flag.StringVar(&o.operation, "op", "decrypt", "what to call: status, encrypt or decrypt")
	flag.BoolVar(&o.echo, "echo", false, "the server sends each request back as its answer")
	flag.IntVar(&o.seeds, "seeds", 64, "number of distinct seeds to encrypt first")
	flag.StringVar(&o.save, "save", "", "write what was encrypted to this file")
	flag.StringVar(&o.load, "load", "", "decrypt what this file holds instead of encrypting first")
	flag.IntVar(&o.callers, "callers", 1, "concurrent callers, each with one call under way")
	flag.IntVar(&o.calls, "calls", 0, "end after so many calls; 0 means after -duration")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "end after this time at the latest")
	flag.Float64Var(&o.rate, "rate", 0, "start so many calls a second whether or not earlier ones have ended; 0 means the callers take turns")
	flag.DurationVar(&o.timeout, "timeout", 3*time.Second, "deadline of one call")
	flag.IntVar(&o.sample, "sample", 1, "with -op encrypt, decrypt every n-th answer afterwards")
	flag.Parse()
	return o
}

func main() {
	report, err := run(parseOptions())
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	if report.Wrong > 0 || report.Calls == 0 {
		os.Exit(1)
	}
}

func run(o options) (*report, error) {
	connection, err := kms.Dial(o.socket, kms.Authority(o.authority))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	service, err := kms.NewService(connection, o.version)
	if err != nil {
		return nil, err
	}
	work := &work{service: service, timeout: o.timeout, echo: o.echo}
	if o.load != "" {
		work.items, err = loadItems(o.load)
	} else {
		work.items, err = makeItems(service, o.seeds, o.timeout, o.echo)
	}
	if err != nil {
		return nil, err
	}
	if o.save != "" {
		if err := saveItems(o.save, work.items); err != nil {
			return nil, err
		}
	}
	call, err := work.operation(o.operation)
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), o.duration)
	defer cancel()
	before := ownCPU()
	started := time.Now()
	var tallies []*tally
	if o.rate > 0 {
		tallies = openLoop(ctx, call, o.rate, o.calls)
	} else {
		tallies = closedLoop(ctx, call, o.callers, o.calls)
	}
	elapsed := time.Since(started)
	cpu := ownCPU() - before
	report := newReport(tallies, elapsed, cpu)
	work.checkMade(report, o.sample)
	return report, nil
}
