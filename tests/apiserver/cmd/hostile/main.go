// Command hostile is the worst client that a KMS plugin could meet, and beside it the best one: kube-apiserver's own
// code. It runs every check against one socket, prints a line for each, and exits with 1 if one failed.
//
// A check has a name that never changes, so that a plugin which is broken on purpose can be matched with the check
// that must catch it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"keystead.dev/tests/apiserver/internal/kms"
)

func main() {
	socket := flag.String("socket", "", "the plugin's socket, unix:///path or unix:///@name")
	versions := flag.String("api", "v2,v1beta1", "versions of the KMS API that the socket serves")
	only := flag.String("only", "", "names of the checks to run, such as H07,H12; empty means all")
	list := flag.Bool("list", false, "print the names of the checks and end")
	flag.Parse()

	// Upstream's packages log each refusal, and refusals are what this is about.
	klog.SetLogger(logr.Discard())

	checks := selected(strings.Split(*versions, ","), *only)
	if *list {
		for _, c := range checks {
			fmt.Println(c.name, c.title)
		}
		return
	}
	passed, failed, err := runAll(*socket, checks)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}

func selected(versions []string, only string) []check {
	var chosen []check
	for _, c := range allChecks {
		named := only == "" || slices.Contains(strings.Split(only, ","), c.name)
		served := !slices.ContainsFunc(c.needs, func(need string) bool { return !slices.Contains(versions, need) })
		if named && served {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

func runAll(socket string, checks []check) (passed, failed int, err error) {
	plugin, err := newPlugin(context.Background(), socket)
	if err != nil {
		return 0, 0, err
	}
	defer plugin.connection.Close()
	before, err := plugin.status()
	if err != nil {
		return 0, 0, fmt.Errorf("no Status before the first check: %w", err)
	}
	for _, c := range checks {
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
		limited := *plugin
		limited.limit = ctx
		t := &try{plugin: &limited, giveUp: cancel}
		c.run(ctx, t)
		cancel()
		if t.count == 0 {
			t.failf("the check tried nothing")
		}
		// Whatever was done to it, the plugin must go on as before.
		if after, err := plugin.status(); err != nil {
			t.failf("Status fails afterwards: %v", err)
		} else if after.KeyId != before.KeyId || after.Version != before.Version || after.Healthz != "ok" {
			t.failf("Status afterwards is %v, and was %v", after, before)
		}
		verdict := "ok"
		if t.failures > 0 {
			verdict = "FAILED"
			failed++
		} else {
			passed++
		}
		fmt.Printf("%s %-6s %6d tries %6d ms  %s\n", c.name, verdict, t.count, time.Since(begin).Milliseconds(), c.title)
		for _, text := range t.examples {
			fmt.Printf("    %s\n", text)
		}
	}
	return passed, failed, nil
}

func newPlugin(limit context.Context, socket string) (*plugin, error) {
	connection, err := kms.Dial(socket, kms.Localhost)
	if err != nil {
		return nil, err
	}
	return &plugin{socket: socket, connection: connection, limit: limit}, nil
}
