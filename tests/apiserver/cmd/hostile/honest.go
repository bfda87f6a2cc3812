package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2"
	kmstypes "k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2"
	"k8s.io/kms/apis/v2"

	"keystead.dev/tests/apiserver/internal/kms"
)

var honestChecks = []check{
	{"H01", "Status says v2, ok and a key_id within upstream's limits", []string{"v2"}, statusIsGood},
	{"H02", "Status stays the same over 400 calls", []string{"v2"}, statusIsStable},
	{"H03", "what Encrypt answers passes upstream's validation, with the key_id of Status", []string{"v2"}, encryptIsValid},
	{"H04", "one seed encrypted twice gives two ciphertexts, and nothing of the seed shows", []string{"v2"}, nothingShows},
	{"H05", "plaintexts of every size come back whole, or are refused; 32 bytes come back", []string{"v2"}, everySize},
	{"H06", "200 parallel callers each get their own seed back", []string{"v2"}, parallel},
	{"H07", "the uid of a Decrypt does not matter", []string{"v2"}, uidIsFree},
	{"H08", "a client that sends the socket's path as authority is served", []string{"v2"}, oldAuthority},
}

func statusIsGood(_ context.Context, t *try) {
	t.count++
	answer, err := t.status()
	if err != nil {
		t.failf("%v", err)
		return
	}
	if answer.Version != "v2" || answer.Healthz != "ok" {
		t.failf("version %q, healthz %q", answer.Version, answer.Healthz)
	}
	if _, err := kmsv2.ValidateKeyID(answer.KeyId); err != nil {
		t.failf("%v", err)
	}
}

func statusIsStable(_ context.Context, t *try) {
	first, err := t.status()
	if err != nil {
		t.failf("%v", err)
		return
	}
	inParallel(t, 8, 50, func(fail func(string, ...any)) {
		answer, err := t.status()
		if err != nil {
			fail("%v", err)
		} else if !proto.Equal(answer, first) {
			fail("%v after %v", answer, first)
		}
	})
}

func encryptIsValid(_ context.Context, t *try) {
	status, err := t.status()
	if err != nil {
		t.failf("%v", err)
		return
	}
	for range 50 {
		t.count++
		s, err := t.seal()
		if err != nil {
			t.failf("%v", err)
			return
		}
		object := &kmstypes.EncryptedObject{
			EncryptedData: []byte{0}, KeyID: s.KeyId, EncryptedDEKSource: s.Ciphertext, Annotations: s.Annotations,
			EncryptedDEKSourceType: kmstypes.EncryptedDEKSourceType_HKDF_SHA256_XNONCE_AES_GCM_SEED,
		}
		if err := kmsv2.ValidateEncryptedObject(object); err != nil {
			t.failf("%v", err)
		}
		if s.KeyId != status.KeyId {
			t.failf("key_id %q, and Status says %q", s.KeyId, status.KeyId)
		}
	}
}

func nothingShows(_ context.Context, t *try) {
	seed := randomBytes(seedSize)
	seen := map[string]bool{}
	for range 50 {
		t.count++
		answer, err := t.encrypt(seed)
		if err != nil {
			t.failf("%v", err)
			return
		}
		if seen[string(answer.Ciphertext)] {
			t.failf("the same ciphertext again")
		}
		seen[string(answer.Ciphertext)] = true
		parts := [][]byte{answer.Ciphertext, []byte(answer.KeyId)}
		for _, name := range slices.Sorted(maps.Keys(answer.Annotations)) {
			parts = append(parts, []byte(name), answer.Annotations[name])
		}
		for _, part := range parts {
			if leaks(part, seed) {
				t.failf("the seed shows in the answer")
			}
		}
	}
}

// leaks tells whether any 8 bytes of a secret show in a text, as they are or in a usual encoding.
func leaks(text, secret []byte) bool {
	for i := 0; i+8 <= len(secret); i++ {
		if bytes.Contains(text, secret[i:i+8]) {
			return true
		}
	}
	lower := []byte(strings.ToLower(string(text)))
	encoded := []byte(strings.TrimRight(base64.StdEncoding.EncodeToString(secret), "="))
	return bytes.Contains(lower, []byte(hex.EncodeToString(secret))) || bytes.Contains(text, encoded)
}

func everySize(_ context.Context, t *try) {
	for size := range 1025 {
		plaintext := randomBytes(size)
		answer, err := t.encrypt(plaintext)
		if err != nil {
			t.refused("Encrypt", err, nil, codes.InvalidArgument)
			if size == seedSize {
				t.failf("32 bytes are refused: %v", err)
			}
			continue
		}
		if len(answer.Ciphertext) == 0 || len(answer.Ciphertext) > 1024 {
			t.failf("%d bytes became %d bytes of ciphertext; upstream takes 1 to 1024", size, len(answer.Ciphertext))
		}
		t.decrypts("Decrypt", &v2.DecryptRequest{
			Ciphertext: answer.Ciphertext, KeyId: answer.KeyId, Annotations: answer.Annotations, Uid: uuid.NewString(),
		}, plaintext)
	}
}

func parallel(_ context.Context, t *try) {
	inParallel(t, 200, 5, func(fail func(string, ...any)) {
		s, err := t.seal()
		if err != nil {
			fail("%v", err)
			return
		}
		plaintext, err := t.decrypt(&s.DecryptRequest)
		if err != nil {
			fail("%v", err)
		} else if !bytes.Equal(plaintext, s.seed) {
			fail("WRONG PLAINTEXT of %d bytes", len(plaintext))
		}
	})
}

func uidIsFree(_ context.Context, t *try) {
	s, err := t.seal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	for _, uid := range []string{"", "x", uuid.NewString(), strings.Repeat("u", 1000), "\x00\u202e"} {
		t.decrypts("another uid", s.with(func(r *v2.DecryptRequest) { r.Uid = uid }), s.seed)
	}
}

func oldAuthority(_ context.Context, t *try) {
	connection, err := kms.Dial(t.socket, kms.SocketPath)
	if err != nil {
		t.failf("%v", err)
		return
	}
	defer connection.Close()
	t.count++
	if _, err := (&plugin{connection: connection, limit: t.limit}).status(); err != nil {
		t.failf("%v", err)
	}
}

// inParallel lets callers each do the same thing a number of times.
func inParallel(t *try, callers, times int, do func(fail func(string, ...any))) {
	var mutex sync.Mutex
	var group sync.WaitGroup
	fail := func(format string, arguments ...any) {
		mutex.Lock()
		defer mutex.Unlock()
		t.failf(format, arguments...)
	}
	for range callers {
		group.Go(func() {
			for range times {
				do(fail)
			}
		})
	}
	group.Wait()
	t.count += callers * times
}
