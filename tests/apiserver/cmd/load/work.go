package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"keystead.dev/tests/apiserver/internal/kms"
)

// errWrong is an answer that came without an error and is not what it must be.
var errWrong = errors.New("wrong answer")

// call makes the n-th call of a run and checks its answer.
type call func(n int) error

type work struct {
	service kms.Service
	timeout time.Duration
	echo    bool
	items   []item

	mutex sync.Mutex
	made  []item // what -op encrypt was answered, to be decrypted when the measurement is over
}

func (w *work) operation(name string) (call, error) {
	switch name {
	case "status":
		return w.status, nil
	case "encrypt":
		return w.encrypt, nil
	case "decrypt":
		return func(n int) error { return w.decrypt(w.items[n%len(w.items)]) }, nil
	}
	return nil, fmt.Errorf("operation %q: there is status, encrypt and decrypt", name)
}

func (w *work) context() (context.Context, context.CancelFunc) {
	// Apart from the run's own context: a call that has begun is not cut off by the end of the measurement.
	return context.WithTimeout(context.Background(), w.timeout)
}

func (w *work) status(int) error {
	ctx, cancel := w.context()
	defer cancel()
	return w.service.Status(ctx)
}

func (w *work) encrypt(int) error {
	ctx, cancel := w.context()
	defer cancel()
	seed := newSeed()
	sealed, err := w.service.Encrypt(ctx, seed)
	if err != nil {
		return err
	}
	if w.echo {
		return same(sealed.Ciphertext, seed)
	}
	if len(sealed.Ciphertext) == 0 || bytes.Contains(sealed.Ciphertext, seed) {
		return errWrong
	}
	w.mutex.Lock()
	w.made = append(w.made, item{seed, sealed})
	w.mutex.Unlock()
	return nil
}

func (w *work) decrypt(it item) error {
	ctx, cancel := w.context()
	defer cancel()
	plaintext, err := w.service.Decrypt(ctx, it.Sealed)
	if err != nil {
		return err
	}
	if w.echo {
		// A request that comes back reads as an answer whose plaintext is the ciphertext: both are field 1.
		return same(plaintext, it.Ciphertext)
	}
	return same(plaintext, it.Seed)
}

// checkMade decrypts what -op encrypt was answered, every n-th of it.
func (w *work) checkMade(report *report, n int) {
	for i := 0; i < len(w.made); i += max(n, 1) {
		report.Checked++
		if err := w.decrypt(w.made[i]); err != nil {
			report.Wrong++
			report.note("Decrypt of an Encrypt", err)
		}
	}
}

func same(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	return errWrong
}
