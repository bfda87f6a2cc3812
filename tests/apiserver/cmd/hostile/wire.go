package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"k8s.io/kms/apis/v2"

	"keystead.dev/tests/apiserver/internal/kms"
)

const (
	statusMethod  = "/v2.KeyManagementService/Status"
	encryptMethod = "/v2.KeyManagementService/Encrypt"
	decryptMethod = "/v2.KeyManagementService/Decrypt"
)

var wireChecks = []check{
	{"H20", "bytes that are no message are refused by Encrypt and Decrypt", []string{"v2"}, malformed},
	{"H21", "a request cut short anywhere is refused, and never gives another plaintext", []string{"v2"}, eachRequestTruncation},
	{"H22", "unknown fields, and Status with a body, are served", []string{"v2"}, unknownFields},
	{"H23", "unknown methods and services are UNIMPLEMENTED", nil, unknownMethods},
}

// malformedCodes adds INTERNAL, which gRPC libraries answer by themselves when they parse a message in vain.
var malformedCodes = append(slices.Clone(permanent), codes.Internal)

func (t *try) raw(method string, request []byte) ([]byte, error) {
	ctx, cancel := t.call()
	defer cancel()
	return kms.Raw(ctx, t.connection, method, request)
}

var malformed = onSealed(func(t *try, s *sealed) {
	good, err := proto.Marshal(&s.DecryptRequest)
	if err != nil {
		t.failf("%v", err)
		return
	}
	requests := map[string][]byte{
		"empty":                        {},
		"one zero":                     {0},
		"one 0xff":                     {0xff},
		"a varint without an end":      bytes.Repeat([]byte{0xff}, 64),
		"a length beyond the end":      {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a negative length":            append([]byte{0x0a}, protowire.AppendVarint(nil, 1<<63)...),
		"field 0":                      {0x02, 0x00},
		"a number for the first field": {0x08, 0x01},
		"a group":                      slices.Concat([]byte{0x0b}, good, []byte{0x0c}),
		"a thousand nested groups":     bytes.Repeat([]byte{0x0b}, 1000),
		"a group without a start":      {0x0c},
		"wire type 7":                  {0x0f},
		"text that is not UTF-8 as the uid": slices.Concat(
			protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), []byte{0xff, 0xfe}), []byte{0xff},
		),
		"JSON": []byte(`{"ciphertext":"AAAA","keyId":"x"}`),
	}
	for _, size := range []int{2, 10, 100, 1000, 100_000} {
		requests[fmt.Sprintf("%d random bytes", size)] = randomBytes(size)
	}
	for what, request := range requests {
		_, err := t.raw(decryptMethod, request)
		t.refused("Decrypt of "+what, err, s.seed, malformedCodes...)
		_, err = t.raw(encryptMethod, request)
		if err != nil { // a group or a field with another number may be one that is unknown
			t.refused("Encrypt of "+what, err, nil, malformedCodes...)
		}
	}
	for what, field := range map[string]protowire.Number{"uid": 2, "key_id": 3} {
		request := protowire.AppendTag(bytes.Clone(good), field, protowire.BytesType)
		request = protowire.AppendBytes(request, []byte{0xc3, 0x28})
		_, err := t.raw(decryptMethod, request)
		t.refused("Decrypt with a "+what+" that is not UTF-8", err, s.seed, malformedCodes...)
	}
})

var eachRequestTruncation = onSealed(func(t *try, s *sealed) {
	good, err := proto.MarshalOptions{Deterministic: true}.Marshal(&s.DecryptRequest)
	if err != nil {
		t.failf("%v", err)
		return
	}
	for size := range len(good) {
		_, err := t.raw(decryptMethod, good[:size])
		t.refused(fmt.Sprintf("the first %d of %d bytes of a request", size, len(good)), err, s.seed, malformedCodes...)
	}
})

var unknownFields = onSealed(func(t *try, s *sealed) {
	extra := protowire.AppendTag(nil, 1000, protowire.BytesType)
	extra = protowire.AppendBytes(extra, []byte("from a later version of the API"))
	good, err := proto.Marshal(&s.DecryptRequest)
	if err != nil {
		t.failf("%v", err)
		return
	}
	for what, request := range map[string][]byte{
		"an unknown field behind": slices.Concat(good, extra), "an unknown field in front": slices.Concat(extra, good),
	} {
		t.count++
		answer, err := t.raw(decryptMethod, request)
		var message v2.DecryptResponse
		if err != nil {
			t.failf("Decrypt with %s: %v", what, err)
		} else if proto.Unmarshal(answer, &message) != nil || !bytes.Equal(message.Plaintext, s.seed) {
			t.failf("Decrypt with %s: WRONG PLAINTEXT", what)
		}
	}
	t.count++
	if _, err := t.raw(statusMethod, extra); err != nil {
		t.failf("Status with an unknown field: %v", err)
	}
})

func unknownMethods(_ context.Context, t *try) {
	for _, method := range []string{
		"/v2.KeyManagementService/Version", "/v2.KeyManagementService/decrypt", "/v2.KeyManagementService/",
		"/v2alpha1.KeyManagementService/Status", "/v3.KeyManagementService/Status", "/KeyManagementService/Status",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/x",
	} {
		_, err := t.raw(method, nil)
		t.refused(method, err, nil, codes.Unimplemented)
	}
}
