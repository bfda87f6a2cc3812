package kms

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
)

// Raw makes a call whose request and answer are bytes, so that a request may be what no library would write.
func Raw(ctx context.Context, connection *grpc.ClientConn, method string, request []byte) ([]byte, error) {
	var answer []byte
	err := connection.Invoke(ctx, method, request, &answer, grpc.ForceCodec(bytesCodec{}))
	return answer, err
}

// bytesCodec passes messages through. It keeps the name of the usual codec, which goes into the content type.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(message any) ([]byte, error) {
	request, ok := message.([]byte)
	if !ok {
		return nil, fmt.Errorf("a raw request is []byte, not %T", message)
	}
	return request, nil
}

func (bytesCodec) Unmarshal(data []byte, message any) error {
	answer, ok := message.(*[]byte)
	if !ok {
		return fmt.Errorf("a raw answer goes into *[]byte, not %T", message)
	}
	*answer = append([]byte(nil), data...)
	return nil
}
