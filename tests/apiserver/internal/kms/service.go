package kms

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"k8s.io/kms/apis/v1beta1"
	"k8s.io/kms/apis/v2"
)

// Sealed is what a plugin made of a seed, and what it needs to give the seed back.
type Sealed struct {
	Ciphertext  []byte            `json:"ciphertext"`
	KeyID       string            `json:"keyID,omitempty"`
	Annotations map[string][]byte `json:"annotations,omitempty"`
}

// Service is either version of the KMS API.
type Service interface {
	Encrypt(ctx context.Context, seed []byte) (Sealed, error)
	Decrypt(ctx context.Context, sealed Sealed) ([]byte, error)
	// Status returns an error unless the plugin says that it is well. In v1beta1 it is the Version call.
	Status(ctx context.Context) error
}

// NewService returns the service of an API version, "v2" or "v1beta1".
func NewService(connection *grpc.ClientConn, version string) (Service, error) {
	switch version {
	case "v2":
		return second{v2.NewKeyManagementServiceClient(connection)}, nil
	case "v1beta1":
		return first{v1beta1.NewKeyManagementServiceClient(connection)}, nil
	}
	return nil, fmt.Errorf("API %q: there is v2 and v1beta1", version)
}

type second struct {
	client v2.KeyManagementServiceClient
}

func (s second) Encrypt(ctx context.Context, seed []byte) (Sealed, error) {
	answer, err := s.client.Encrypt(ctx, &v2.EncryptRequest{Plaintext: seed, Uid: uuid.NewString()})
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{answer.Ciphertext, answer.KeyId, answer.Annotations}, nil
}

func (s second) Decrypt(ctx context.Context, sealed Sealed) ([]byte, error) {
	answer, err := s.client.Decrypt(ctx, &v2.DecryptRequest{
		Ciphertext: sealed.Ciphertext, Uid: uuid.NewString(), KeyId: sealed.KeyID, Annotations: sealed.Annotations,
	})
	if err != nil {
		return nil, err
	}
	return answer.Plaintext, nil
}

func (s second) Status(ctx context.Context) error {
	answer, err := s.client.Status(ctx, &v2.StatusRequest{})
	if err != nil {
		return err
	}
	if answer.Version != "v2" || answer.Healthz != "ok" || answer.KeyId == "" {
		return fmt.Errorf("status is version %q, healthz %q, key_id %q", answer.Version, answer.Healthz, answer.KeyId)
	}
	return nil
}

type first struct {
	client v1beta1.KeyManagementServiceClient
}

func (f first) Encrypt(ctx context.Context, seed []byte) (Sealed, error) {
	answer, err := f.client.Encrypt(ctx, &v1beta1.EncryptRequest{Version: "v1beta1", Plain: seed})
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{Ciphertext: answer.Cipher}, nil
}

func (f first) Decrypt(ctx context.Context, sealed Sealed) ([]byte, error) {
	answer, err := f.client.Decrypt(ctx, &v1beta1.DecryptRequest{Version: "v1beta1", Cipher: sealed.Ciphertext})
	if err != nil {
		return nil, err
	}
	return answer.Plain, nil
}

func (f first) Status(ctx context.Context) error {
	answer, err := f.client.Version(ctx, &v1beta1.VersionRequest{Version: "v1beta1"})
	if err != nil {
		return err
	}
	if answer.Version != "v1beta1" {
		return fmt.Errorf("version is %q", answer.Version)
	}
	return nil
}
