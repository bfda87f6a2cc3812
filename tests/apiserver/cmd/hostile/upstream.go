package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
)

var upstreamChecks = []check{
	{"H50", "upstream's EncryptionConfiguration loads, and its health check is green", []string{"v2"}, upstreamHealth},
	{"H51", "1000 objects are written and read, and none is stale", []string{"v2"}, upstreamObjects},
	{"H52", "another API server, started later, reads what the first one wrote", []string{"v2"}, upstreamSecondServer},
	{"H53", "a stored object with any byte changed is never read as anything", []string{"v2"}, upstreamTampered},
}

// Two API servers of one cluster have the same provider name and different identities.
const providerName = "hostile"

var resource = schema.GroupResource{Resource: "secrets"}

// server is what kube-apiserver makes of its EncryptionConfiguration: pollers, seeds and caches included.
type server struct {
	*encryptionconfig.EncryptionConfiguration
	value.Transformer
}

func (t *try) startServer(ctx context.Context, identity string) (*server, error) {
	directory, err := os.MkdirTemp("", "hostile-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(directory)
	file := filepath.Join(directory, "encryption.yaml")
	text := fmt.Sprintf(`
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers:
  - kms: {apiVersion: v2, name: %s, endpoint: %q, timeout: 3s}
`, providerName, t.socket)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	configuration, err := encryptionconfig.LoadEncryptionConfig(ctx, file, false, identity)
	if err != nil {
		return nil, err
	}
	return &server{configuration, configuration.Transformers[resource]}, nil
}

func path(n int) value.Context {
	return value.DefaultContext(fmt.Sprintf("/registry/secrets/default/object-%d", n))
}

func content(n int) []byte {
	return fmt.Appendf(nil, "the content of object %d, which nobody may see", n)
}

func (s *server) write(ctx context.Context, count int) ([][]byte, error) {
	stored := make([][]byte, count)
	for n := range stored {
		var err error
		if stored[n], err = s.TransformToStorage(ctx, content(n), path(n)); err != nil {
			return nil, fmt.Errorf("object %d: %w", n, err)
		}
	}
	return stored, nil
}

func (t *try) readAll(ctx context.Context, s *server, stored [][]byte) {
	for n, data := range stored {
		t.count++
		object, stale, err := s.TransformFromStorage(ctx, data, path(n))
		switch {
		case err != nil:
			t.failf("object %d: %v", n, err)
		case !bytes.Equal(object, content(n)):
			t.failf("object %d: WRONG CONTENT", n)
		case stale:
			t.failf("object %d is stale", n)
		}
	}
}

func upstreamHealth(ctx context.Context, t *try) {
	s, err := t.startServer(ctx, "apiserver-1")
	if err != nil {
		t.failf("%v", err)
		return
	}
	for _, checker := range s.HealthChecks {
		t.count++
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/healthz", nil)
		if err != nil {
			t.failf("%v", err)
			return
		}
		if err := checker.Check(request); err != nil {
			t.failf("%s: %v", checker.Name(), err)
		}
	}
}

func upstreamObjects(ctx context.Context, t *try) {
	s, err := t.startServer(ctx, "apiserver-1")
	if err != nil {
		t.failf("%v", err)
		return
	}
	stored, err := s.write(ctx, 1000)
	if err != nil {
		t.failf("%v", err)
		return
	}
	for n, data := range stored {
		if !bytes.HasPrefix(data, []byte("k8s:enc:kms:v2:"+providerName+":")) || bytes.Contains(data, []byte("nobody may see")) {
			t.failf("object %d is stored as %.40q", n, data)
		}
	}
	t.readAll(ctx, s, stored)
}

func upstreamSecondServer(ctx context.Context, t *try) {
	first, err := t.startServer(ctx, "apiserver-1")
	if err != nil {
		t.failf("%v", err)
		return
	}
	stored, err := first.write(ctx, 100)
	if err != nil {
		t.failf("%v", err)
		return
	}
	// It has none of the first one's seeds, so each comes through Decrypt.
	second, err := t.startServer(ctx, "apiserver-2")
	if err != nil {
		t.failf("%v", err)
		return
	}
	t.readAll(ctx, second, stored)
	back, err := second.write(ctx, 100)
	if err != nil {
		t.failf("%v", err)
		return
	}
	t.readAll(ctx, first, back)
}

func upstreamTampered(ctx context.Context, t *try) {
	writer, err := t.startServer(ctx, "apiserver-1")
	if err != nil {
		t.failf("%v", err)
		return
	}
	stored, err := writer.write(ctx, 1)
	if err != nil {
		t.failf("%v", err)
		return
	}
	reader, err := t.startServer(ctx, "apiserver-2")
	if err != nil {
		t.failf("%v", err)
		return
	}
	for i := range stored[0] {
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			t.count++
			changed := bytes.Clone(stored[0])
			changed[i] ^= mask
			begin := time.Now()
			if object, _, err := reader.TransformFromStorage(ctx, changed, path(0)); err == nil {
				t.failf("byte %d changed by %#02x reads as %d bytes", i, mask, len(object))
			}
			if took := time.Since(begin); took > callLimit {
				t.failf("byte %d changed by %#02x took %v", i, mask, took)
			}
		}
	}
	t.readAll(ctx, reader, stored)
}
