package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"k8s.io/kms/apis/v1beta1"
	"k8s.io/kms/apis/v2"

	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope"
)

const maxFirstCipher = 65535 // its length is stored in two bytes

var firstVersionChecks = []check{
	{"H40", "v1beta1: upstream's client gets its DEKs and the health check's ping back", []string{"v1beta1"}, firstRoundTrip},
	{"H41", "v1beta1: a cipher cut short, or with any one bit flipped, is refused", []string{"v1beta1"}, firstTampered},
	{"H42", "a ciphertext of one version of the API is refused by the other", []string{"v1beta1", "v2"}, firstAsSecond},
}

func firstRoundTrip(ctx context.Context, t *try) {
	// Upstream's own client, which asks for the Version first and sends the socket's path as authority.
	service, err := envelope.NewGRPCService(ctx, t.socket, callLimit)
	if err != nil {
		t.failf("%v", err)
		return
	}
	plaintexts := [][]byte{[]byte("ping"), randomBytes(16), randomBytes(24)}
	for range 50 {
		plaintexts = append(plaintexts, randomBytes(32))
	}
	for _, plaintext := range plaintexts {
		t.count++
		cipher, err := service.Encrypt(plaintext)
		if err != nil {
			t.failf("Encrypt of %d bytes: %v", len(plaintext), err)
			continue
		}
		if len(cipher) == 0 || len(cipher) > maxFirstCipher || len(plaintext) > 8 && leaks(cipher, plaintext) {
			t.failf("Encrypt of %d bytes gave %d bytes that cannot be stored or show the plaintext", len(plaintext), len(cipher))
		}
		if back, err := service.Decrypt(cipher); err != nil {
			t.failf("Decrypt: %v", err)
		} else if !bytes.Equal(back, plaintext) {
			t.failf("WRONG PLAINTEXT of %d bytes", len(back))
		}
	}
}

func (t *try) firstDecrypt(cipher []byte) error {
	ctx, cancel := t.call()
	defer cancel()
	client := v1beta1.NewKeyManagementServiceClient(t.connection)
	_, err := client.Decrypt(ctx, &v1beta1.DecryptRequest{Version: "v1beta1", Cipher: cipher})
	return err
}

func (t *try) firstSeal() (seed, cipher []byte, err error) {
	ctx, cancel := t.call()
	defer cancel()
	seed = randomBytes(seedSize)
	client := v1beta1.NewKeyManagementServiceClient(t.connection)
	answer, err := client.Encrypt(ctx, &v1beta1.EncryptRequest{Version: "v1beta1", Plain: seed})
	if err != nil {
		return nil, nil, fmt.Errorf("Encrypt: %w", err)
	}
	return seed, answer.Cipher, nil
}

func firstTampered(_ context.Context, t *try) {
	seed, cipher, err := t.firstSeal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	for size := range len(cipher) {
		t.refused(fmt.Sprintf("the first %d bytes", size), t.firstDecrypt(cipher[:size]), seed, permanent...)
	}
	forEachBit(cipher, func(where string, flipped []byte) {
		t.refused(where, t.firstDecrypt(flipped), seed, permanent...)
	})
	t.refused("a byte behind", t.firstDecrypt(append(bytes.Clone(cipher), 0)), seed, permanent...)
	t.refused("doubled", t.firstDecrypt(slices.Repeat(cipher, 2)), seed, permanent...)
	for _, size := range []int{0, 1, 100, maxFirstCipher, maxFirstCipher + 1, 1 << 20} {
		t.refused(fmt.Sprintf("%d random bytes", size), t.firstDecrypt(randomBytes(size)), seed, permanent...)
	}
	if err := t.firstDecrypt(cipher); err != nil {
		t.failf("unchanged, afterwards: %v", err)
	}
}

func firstAsSecond(_ context.Context, t *try) {
	s, err := t.seal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	seed, cipher, err := t.firstSeal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	t.refused("a v2 ciphertext as v1beta1", t.firstDecrypt(s.Ciphertext), s.seed, permanent...)
	// The parts of a v2 request are in front of it, in a v1beta1 cipher, in some order: every tail is tried.
	for start := range len(cipher) {
		request := s.with(func(r *v2.DecryptRequest) { r.Ciphertext = cipher[start:] })
		t.decryptRefused(fmt.Sprintf("a v1beta1 cipher from byte %d as v2", start), request, seed)
	}
}
