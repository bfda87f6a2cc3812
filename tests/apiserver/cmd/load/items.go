package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"keystead.dev/tests/apiserver/internal/kms"
)

const seedSize = 32 // what kube-apiserver encrypts is always this long

// item is a seed and what the plugin made of it.
type item struct {
	Seed []byte `json:"seed"`
	kms.Sealed
}

func newSeed() []byte {
	seed := make([]byte, seedSize)
	rand.Read(seed)
	return seed
}

func makeItems(service kms.Service, count int, timeout time.Duration, echo bool) ([]item, error) {
	items := make([]item, count)
	for i := range items {
		seed := newSeed()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		sealed, err := service.Encrypt(ctx, seed)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("encrypt seed %d of %d: %w", i+1, count, err)
		}
		if echo {
			sealed = kms.Sealed{Ciphertext: seed, KeyID: "echo"}
		}
		items[i] = item{seed, sealed}
	}
	return items, nil
}

func loadItems(path string) ([]item, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var items []item
	if err := json.Unmarshal(text, &items); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%s holds no items", path)
	}
	return items, nil
}

func saveItems(path string, items []item) error {
	text, err := json.Marshal(items)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
