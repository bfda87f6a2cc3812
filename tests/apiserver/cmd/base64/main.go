// Command base64 serves the plugin that Kubernetes tests its API server with, which encodes and does not encrypt.
// usage: base64 SOCKET
package main

import (
	"log"
	"os"
	"testing"

	mock "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/testing/v2"
)

// outside stands for a test: the plugin was written for one.
type outside struct{ testing.TB }

func (outside) Errorf(format string, args ...any) { log.Printf(format, args...) }
func (outside) Fatalf(format string, args ...any) { log.Fatalf(format, args...) }
func (outside) Cleanup(func())                    {}

func main() {
	plugin := mock.NewBase64Plugin(outside{}, os.Args[1])
	plugin.SetVersion("v2")
	select {}
}
