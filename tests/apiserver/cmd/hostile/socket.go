package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/kms/pkg/util"
)

var socketChecks = []check{
	{"H30", "connections that speak no gRPC disturb nobody", nil, garbage},
	{"H31", "200 silent connections disturb nobody", []string{"v2"}, silent},
	{"H32", "300 calls that are cancelled at once disturb nobody", []string{"v2"}, cancelled},
	{"H33", "400 connections, one after the other, are each served", []string{"v2"}, manyConnections},
}

func (t *try) dial() (net.Conn, error) {
	address, err := util.ParseEndpoint(t.socket)
	if err != nil {
		return nil, err
	}
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: address})
}

// served demands a right answer within a second on the connection that was there before.
func (t *try) served(during string) {
	t.count++
	begin := time.Now()
	if _, err := t.status(); err != nil {
		t.failf("Status %s: %v", during, err)
	} else if took := time.Since(begin); took > time.Second {
		t.failf("Status %s took %v", during, took)
	}
}

func garbage(_ context.Context, t *try) {
	preface := []byte(http2.ClientPreface)
	random := make([]byte, 100_000)
	rand.Read(random)
	for what, data := range map[string][]byte{
		"nothing":                                   nil,
		"a request of HTTP/1.1":                     []byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		"a TLS hello":                               {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03},
		"100 kB of noise":                           random,
		"zeros":                                     make([]byte, 100_000),
		"half of the preface of HTTP/2":             preface[:12],
		"the preface and noise":                     append(bytes.Clone(preface), random...),
		"the preface and a reserved stream":         append(bytes.Clone(preface), frames(wrongStream)...),
		"the preface and 1000 empty SETTINGS":       append(bytes.Clone(preface), frames(manySettings)...),
		"the preface and 1000 resets":               append(bytes.Clone(preface), frames(manyResets)...),
		"the preface and headers that are no HPACK": append(bytes.Clone(preface), frames(wrongHeaders)...),
	} {
		connection, err := t.dial()
		if err != nil {
			t.failf("%s: %v", what, err)
			continue
		}
		connection.SetDeadline(time.Now().Add(time.Second))
		connection.Write(data) // the plugin may hang up before all is written
		t.served("beside " + what)
		connection.Close()
		t.served("after " + what)
	}
}

func frames(write func(*http2.Framer)) []byte {
	var out bytes.Buffer
	framer := http2.NewFramer(&out, nil)
	framer.AllowIllegalWrites = true
	framer.WriteSettings()
	write(framer)
	return out.Bytes()
}

func wrongStream(f *http2.Framer) { f.WriteData(0, true, []byte("data on the connection itself")) }

func manySettings(f *http2.Framer) {
	for range 1000 {
		f.WriteSettings()
	}
}

func manyResets(f *http2.Framer) {
	for i := range uint32(1000) {
		f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
	}
}

func wrongHeaders(f *http2.Framer) {
	f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: bytes.Repeat([]byte{0xff}, 1000), EndHeaders: true, EndStream: true,
	})
}

func silent(_ context.Context, t *try) {
	for range 200 {
		connection, err := t.dial()
		if err != nil {
			t.failf("%v", err)
			return
		}
		defer connection.Close()
	}
	t.served("beside 200 silent connections")
	s, err := t.seal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	t.decrypts("beside 200 silent connections", &s.DecryptRequest, s.seed)
}

func cancelled(_ context.Context, t *try) {
	s, err := t.seal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	var mutex sync.Mutex
	var group sync.WaitGroup
	for i := range 300 {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.limit, time.Duration(i)*2*time.Millisecond/300)
			defer cancel()
			answer, err := t.client().Decrypt(ctx, &s.DecryptRequest)
			mutex.Lock()
			defer mutex.Unlock()
			t.count++
			switch {
			case err == nil && !bytes.Equal(answer.Plaintext, s.seed):
				t.failf("WRONG PLAINTEXT")
			case err != nil && status.Code(err) != codes.DeadlineExceeded && status.Code(err) != codes.Canceled:
				t.failf("%v", err)
			}
		})
	}
	group.Wait()
	t.served("after 300 cancelled calls")
	t.decrypts("after 300 cancelled calls", &s.DecryptRequest, s.seed)
}

func manyConnections(_ context.Context, t *try) {
	s, err := t.seal()
	if err != nil {
		t.failf("%v", err)
		return
	}
	for range 400 {
		other, err := newPlugin(t.limit, t.socket)
		if err != nil {
			t.failf("%v", err)
			return
		}
		t.count++
		plaintext, err := other.decrypt(&s.DecryptRequest)
		if err != nil {
			t.failf("%v", err)
		} else if !bytes.Equal(plaintext, s.seed) {
			t.failf("WRONG PLAINTEXT")
		}
		other.connection.Close()
	}
}
