// Package kms speaks to a plugin's socket as kube-apiserver does.
package kms

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kms/pkg/util"
)

// Authority is what the client writes into the :authority header of each call.
type Authority string

const (
	// Localhost is what kube-apiserver sends for KMS v2 since Kubernetes 1.32.
	Localhost Authority = "localhost"
	// SocketPath is what it sends for KMS v1, and sent for v2 before: the socket's path, percent-encoded.
	SocketPath Authority = "path"
)

// Dial makes the one connection that kube-apiserver keeps for a KMS entry of its configuration. Calls on it wait
// until the plugin is there, for as long as their own deadline allows.
func Dial(endpoint string, authority Authority) (*grpc.ClientConn, error) {
	address, err := util.ParseEndpoint(endpoint)
	if err != nil {
		return nil, fmt.Errorf("socket %q: %w", endpoint, err)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return net.DialUnix("unix", nil, &net.UnixAddr{Name: address})
		}),
	}
	switch authority {
	case Localhost:
		options = append(options, grpc.WithAuthority("localhost"))
	case SocketPath:
		// Without an authority grpc-go derives this one from the target.
	default:
		return nil, fmt.Errorf("authority %q: there is %s and %s", authority, Localhost, SocketPath)
	}
	// The function is deprecated, and the one that kube-apiserver uses: its successor would parse the target.
	return grpc.Dial(address, options...) //nolint:staticcheck
}
