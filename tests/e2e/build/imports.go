//go:build never

// Package imports names the programs that build.sh builds, so that the go command selects one version of every
// module for all of them. In particular, etcd comes in the version that this release of Kubernetes was written for.
package imports

import (
	_ "go.etcd.io/etcd/server/v3/etcdmain"
	_ "k8s.io/kubernetes/cmd/kube-apiserver/app"
	_ "k8s.io/kubernetes/cmd/kubectl"
)
