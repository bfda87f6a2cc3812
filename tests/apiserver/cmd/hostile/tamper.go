package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"k8s.io/kms/apis/v2"
)

var tamperChecks = []check{
	{"H10", "a ciphertext cut short anywhere is refused", []string{"v2"}, eachTruncation},
	{"H11", "a ciphertext with any one bit flipped is refused", []string{"v2"}, eachBit},
	{"H12", "a ciphertext that is empty, longer, doubled or random is refused", []string{"v2"}, otherCiphertexts},
	{"H13", "a ciphertext spliced of two, at any place, is refused", []string{"v2"}, eachSplice},
	{"H14", "another key_id is refused", []string{"v2"}, otherKeyIDs},
	{"H15", "annotations that are missing, renamed, extra or huge are refused", []string{"v2"}, otherAnnotations},
	{"H16", "an annotation cut short anywhere, or with any one bit flipped, is refused", []string{"v2"}, eachAnnotationBit},
	{"H17", "fields just below gRPC's limit are refused in time, and just above it too", []string{"v2"}, hugeFields},
}

func onSealed(run func(*try, *sealed)) func(context.Context, *try) {
	return func(_ context.Context, t *try) {
		s, err := t.seal()
		if err != nil {
			t.failf("%v", err)
			return
		}
		run(t, s)
		t.decrypts("unchanged, afterwards", &s.DecryptRequest, s.seed)
	}
}

func (t *try) ciphertextRefused(what string, s *sealed, ciphertext []byte) {
	t.decryptRefused(what, s.with(func(r *v2.DecryptRequest) { r.Ciphertext = ciphertext }), s.seed)
}

var eachTruncation = onSealed(func(t *try, s *sealed) {
	for size := range len(s.Ciphertext) {
		t.ciphertextRefused(fmt.Sprintf("the first %d bytes", size), s, s.Ciphertext[:size])
		t.ciphertextRefused(fmt.Sprintf("the last %d bytes", size), s, s.Ciphertext[len(s.Ciphertext)-size:])
	}
})

var eachBit = onSealed(func(t *try, s *sealed) {
	forEachBit(s.Ciphertext, func(where string, flipped []byte) { t.ciphertextRefused(where, s, flipped) })
})

func forEachBit(original []byte, do func(where string, flipped []byte)) {
	for i := range original {
		for bit := range 8 {
			flipped := bytes.Clone(original)
			flipped[i] ^= 1 << bit
			do(fmt.Sprintf("bit %d of byte %d", bit, i), flipped)
		}
	}
}

var otherCiphertexts = onSealed(func(t *try, s *sealed) {
	t.ciphertextRefused("empty", s, nil)
	t.ciphertextRefused("doubled", s, slices.Repeat(s.Ciphertext, 2))
	for _, size := range []int{1, 2, 3, 16, 1024, 65536} {
		zeros := make([]byte, size)
		t.ciphertextRefused(fmt.Sprintf("%d zeros behind", size), s, slices.Concat(s.Ciphertext, zeros))
		t.ciphertextRefused(fmt.Sprintf("%d zeros in front", size), s, slices.Concat(zeros, s.Ciphertext))
	}
	for size := 1; size <= 1<<20; size *= 2 {
		for _, exact := range []int{size - 1, size, size + 1} {
			t.ciphertextRefused(fmt.Sprintf("%d random bytes", exact), s, randomBytes(exact))
		}
	}
	t.ciphertextRefused("random bytes of the right size", s, randomBytes(len(s.Ciphertext)))
	t.ciphertextRefused("the seed itself", s, s.seed)
})

var eachSplice = onSealed(func(t *try, s *sealed) {
	other, err := t.seal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	for at := 1; at < min(len(s.Ciphertext), len(other.Ciphertext)); at++ {
		spliced := slices.Concat(s.Ciphertext[:at], other.Ciphertext[at:])
		if bytes.Equal(spliced, s.Ciphertext) || bytes.Equal(spliced, other.Ciphertext) {
			continue
		}
		t.ciphertextRefused(fmt.Sprintf("two ciphertexts joined at byte %d", at), s, spliced)
	}
	// One ciphertext with the rest of another answer may open if the rest is the same, and then to its own seed only.
	mixed := s.with(func(r *v2.DecryptRequest) { r.Ciphertext = other.Ciphertext })
	t.count++
	if plaintext, err := t.decrypt(mixed); err == nil && !bytes.Equal(plaintext, other.seed) {
		t.failf("parts of two answers gave a plaintext that belongs to neither")
	}
})

var otherKeyIDs = onSealed(func(t *try, s *sealed) {
	last := len(s.KeyId) - 1
	ids := map[string]string{
		"empty":              "",
		"one byte":           "x",
		"cut by a byte":      s.KeyId[:last],
		"longer by a byte":   s.KeyId + "x",
		"last byte replaced": s.KeyId[:last] + map[bool]string{true: "b", false: "a"}[s.KeyId[last] == 'a'],
		"upper case":         strings.ToUpper(s.KeyId),
		"a NUL behind":       s.KeyId + "\x00",
		"a space behind":     s.KeyId + " ",
		"a newline behind":   s.KeyId + "\n",
		"bidi override":      "\u202e" + s.KeyId,
		"NULs":               strings.Repeat("\x00", len(s.KeyId)),
		"1024 bytes":         strings.Repeat("k", 1024),
		"1025 bytes":         strings.Repeat("k", 1025),
		"1 MiB":              strings.Repeat("k", 1<<20),
		"a path":             "../../../../etc/passwd",
		"a URL":              "http://127.0.0.1:1/",
	}
	for what, id := range ids {
		t.decryptRefused("key_id: "+what, s.with(func(r *v2.DecryptRequest) { r.KeyId = id }), s.seed)
	}
})

var otherAnnotations = onSealed(func(t *try, s *sealed) {
	refuse := func(what string, change func(map[string][]byte)) {
		t.decryptRefused("annotations: "+what, s.with(func(r *v2.DecryptRequest) { change(r.Annotations) }), s.seed)
	}
	refuse("one more", func(a map[string][]byte) { a["extra.example.com"] = []byte("x") })
	refuse("one more, empty", func(a map[string][]byte) { a["extra.example.com"] = nil })
	refuse("one more without a name", func(a map[string][]byte) { a[""] = []byte("x") })
	refuse("a thousand more", func(a map[string][]byte) {
		for i := range 1000 {
			a[fmt.Sprintf("a%d.example.com", i)] = []byte("x")
		}
	})
	for name, value := range s.Annotations {
		refuse(name+" missing", func(a map[string][]byte) { delete(a, name) })
		refuse(name+" emptied", func(a map[string][]byte) { a[name] = nil })
		refuse(name+" doubled", func(a map[string][]byte) { a[name] = slices.Repeat(value, 2) })
		refuse(name+" a byte longer", func(a map[string][]byte) { a[name] = append(a[name], 0) })
		refuse(name+" 1 MiB", func(a map[string][]byte) { a[name] = make([]byte, 1<<20) })
		refuse(name+" random", func(a map[string][]byte) { a[name] = randomBytes(len(value)) })
		refuse(name+" renamed", func(a map[string][]byte) { delete(a, name); a["x"+name] = value })
		refuse(name+" in upper case", func(a map[string][]byte) { delete(a, name); a[strings.ToUpper(name)] = value })
	}
})

var eachAnnotationBit = onSealed(func(t *try, s *sealed) {
	for name, value := range s.Annotations {
		replace := func(what string, changed []byte) {
			request := s.with(func(r *v2.DecryptRequest) { r.Annotations[name] = changed })
			t.decryptRefused(name+": "+what, request, s.seed)
		}
		for size := range len(value) {
			replace(fmt.Sprintf("the first %d bytes", size), value[:size])
		}
		forEachBit(value, replace)
	}
})

var hugeFields = onSealed(func(t *try, s *sealed) {
	const limit = 4 << 20
	for what, change := range map[string]func(*v2.DecryptRequest, int){
		"ciphertext": func(r *v2.DecryptRequest, size int) { r.Ciphertext = make([]byte, size) },
		"key_id":     func(r *v2.DecryptRequest, size int) { r.KeyId = strings.Repeat("k", size) },
		"uid":        func(r *v2.DecryptRequest, size int) { r.Uid = strings.Repeat("u", size); r.Ciphertext = nil },
		"annotation": func(r *v2.DecryptRequest, size int) { r.Annotations["a.example.com"] = make([]byte, size) },
	} {
		t.decryptRefused(what+" just below 4 MiB", s.with(func(r *v2.DecryptRequest) { change(r, limit-2000) }), s.seed)
		_, err := t.decrypt(s.with(func(r *v2.DecryptRequest) { change(r, limit+2000) }))
		t.refused(what+" just above 4 MiB", err, s.seed, codes.ResourceExhausted)
	}
	_, err := t.encrypt(make([]byte, limit-2000))
	t.refused("plaintext just below 4 MiB", err, nil, codes.InvalidArgument)
	_, err = t.encrypt(make([]byte, limit+2000))
	t.refused("plaintext just above 4 MiB", err, nil, codes.ResourceExhausted)
})
