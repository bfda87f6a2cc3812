package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kms/apis/v2"
)

const (
	callLimit   = 3 * time.Second // kube-apiserver's default, after which any answer is too late
	checkLimit  = time.Minute
	maxText     = 1024
	maxFailures = 5 // of one check, which then gives up: a plugin that is dead would cost it 3 s for each call
	seedSize    = 32
)

// permanent are the codes for a request that will never succeed. UNAVAILABLE would make operators wait, UNKNOWN is
// what an exception in a handler becomes.
var permanent = []codes.Code{codes.InvalidArgument, codes.DataLoss, codes.FailedPrecondition}

type check struct {
	name, title string
	needs       []string // versions of the API
	run         func(context.Context, *try)
}

var allChecks = slices.Concat(honestChecks, tamperChecks, wireChecks, socketChecks, firstVersionChecks, upstreamChecks)

// try collects what one check did and what was wrong.
type try struct {
	*plugin
	giveUp   context.CancelFunc
	count    int
	failures int
	examples []string
}

func (t *try) failf(format string, arguments ...any) {
	if t.failures < maxFailures {
		t.examples = append(t.examples, fmt.Sprintf(format, arguments...))
	}
	if t.failures++; t.failures == maxFailures {
		t.giveUp()
	}
}

// refused demands an error of one of these codes, short, and without a secret in it.
func (t *try) refused(what string, err error, secret []byte, allowed ...codes.Code) {
	t.count++
	if err == nil {
		t.failf("%s: was answered, and must be refused", what)
		return
	}
	code := status.Code(err)
	text := status.Convert(err).Message()
	if !slices.Contains(allowed, code) {
		t.failf("%s: refused with %s (%.200s), not with one of %v", what, code, text, allowed)
	}
	if len(text) > maxText {
		t.failf("%s: the error's text has %d bytes", what, len(text))
	}
	if len(secret) > 0 && leaks([]byte(text), secret) {
		t.failf("%s: the error's text holds the plaintext", what)
	}
}

// decrypts demands the right plaintext.
func (t *try) decrypts(what string, request *v2.DecryptRequest, seed []byte) {
	t.count++
	plaintext, err := t.decrypt(request)
	if err != nil {
		t.failf("%s: %v", what, err)
	} else if !bytes.Equal(plaintext, seed) {
		t.failf("%s: WRONG PLAINTEXT of %d bytes", what, len(plaintext))
	}
}

// decryptRefused demands that a request is refused for ever.
func (t *try) decryptRefused(what string, request *v2.DecryptRequest, seed []byte) {
	_, err := t.decrypt(request)
	t.refused(what, err, seed, permanent...)
}

// plugin is the far side of one connection.
type plugin struct {
	socket     string
	connection *grpc.ClientConn
	limit      context.Context // of the check that uses it
}

// call returns the context of one call.
func (p *plugin) call() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.limit, callLimit)
}

func (p *plugin) client() v2.KeyManagementServiceClient {
	return v2.NewKeyManagementServiceClient(p.connection)
}

func (p *plugin) status() (*v2.StatusResponse, error) {
	ctx, cancel := p.call()
	defer cancel()
	return p.client().Status(ctx, &v2.StatusRequest{})
}

func (p *plugin) encrypt(plaintext []byte) (*v2.EncryptResponse, error) {
	ctx, cancel := p.call()
	defer cancel()
	return p.client().Encrypt(ctx, &v2.EncryptRequest{Plaintext: plaintext, Uid: uuid.NewString()})
}

func (p *plugin) decrypt(request *v2.DecryptRequest) ([]byte, error) {
	ctx, cancel := p.call()
	defer cancel()
	answer, err := p.client().Decrypt(ctx, request)
	if err != nil {
		return nil, err
	}
	return answer.Plaintext, nil
}

// sealed is a seed, and the request that must give it back.
type sealed struct {
	seed []byte
	v2.DecryptRequest
}

var errNoSeed = errors.New("a seed of 32 bytes cannot be encrypted")

func (p *plugin) seal() (*sealed, error) {
	seed := randomBytes(seedSize)
	answer, err := p.encrypt(seed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSeed, err)
	}
	return &sealed{seed: seed, DecryptRequest: v2.DecryptRequest{
		Ciphertext: answer.Ciphertext, KeyId: answer.KeyId, Annotations: answer.Annotations, Uid: uuid.NewString(),
	}}, nil
}

// with returns a copy of the request after a change.
func (s *sealed) with(change func(*v2.DecryptRequest)) *v2.DecryptRequest {
	request := &v2.DecryptRequest{
		Ciphertext: bytes.Clone(s.Ciphertext), KeyId: s.KeyId, Uid: s.Uid, Annotations: map[string][]byte{},
	}
	for name, value := range s.Annotations {
		request.Annotations[name] = bytes.Clone(value)
	}
	change(request)
	return request
}

func randomBytes(size int) []byte {
	out := make([]byte, size)
	rand.Read(out)
	return out
}
