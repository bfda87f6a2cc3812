#!/usr/bin/env bash
# Builds kube-apiserver, kubectl and etcd from their published Go modules, for the end-to-end tests.
#
# usage: build.sh [VERSION...]        VERSION is a Kubernetes release such as v1.36.3, the default
#
# The binaries are kept outside of the tree, in ${KEYSTEAD_CACHE:-${XDG_CACHE_HOME:-~/.cache}/keystead}/cluster/VERSION/.
# What is there already is not built again. With cold Go caches one version takes 4 to 10 minutes on two cores and
# about 90 MiB of downloads; with warm ones half a minute, which is the linking.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${KEYSTEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keystead}/cluster
# KEYSTEAD_ALSO=kubeadm adds what one test holds our part of its configuration against.
read -r -a also <<<"${KEYSTEAD_ALSO:-}"
binaries=(etcd kubectl kube-apiserver "${also[@]}")

say() { printf '%s\n' "$*"; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

main() {
  local version
  for version in "${@:-v1.36.3}"; do
    [[ $version =~ ^v1\.[0-9]+\.[0-9]+$ ]] || die "'$version' is not a Kubernetes release such as v1.36.3"
    # One subshell per version: its trap removes its work directory, also after a failure or an interrupt.
    (build_version "$version")
  done
}

build_version() {
  local version=$1 bin=$cache/$1 name work missing=()
  for name in "${binaries[@]}"; do
    [[ -x $bin/$name ]] || missing+=("$name")
  done
  if ((${#missing[@]} == 0)); then
    say "$version: built already, in $bin"
    return
  fi

  command -v go >/dev/null || die "no 'go' in PATH; kube-apiserver is built from source, see https://go.dev/doc/install"
  mkdir -p "$bin"
  # Both names are put into the trap now, because it runs outside of this function.
  work=$(mktemp -d "$bin/.work.XXXXXX")
  trap "rm -rf ${work@Q}; rmdir --ignore-fail-on-non-empty ${bin@Q}" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  cd "$work"
  export CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false" GOWORK=off

  say "$version: resolving modules"
  write_module "$version"
  for name in "${missing[@]}"; do
    build_binary "$version" "$name"
    mv "$work/bin/$name" "$bin/$name"
  done
  say "$version: complete, in $bin"
}

# A module that requires k8s.io/kubernetes must replace the staging modules (k8s.io/api and 30 more) itself: upstream's
# go.mod names them at v0.0.0 and points into its own tree. Release v1.Y.Z publishes each of them as v0.Y.Z.
write_module() {
  local version=$1 go_needed go_mod module edits
  read -r go_needed go_mod < <(go list -m -f '{{.GoVersion}} {{.GoMod}}' "k8s.io/kubernetes@$version") ||
    die "module k8s.io/kubernetes@$version cannot be fetched, see go's message above"

  cp "$here/imports.go" .
  cp -R "$here/etcd" .
  go mod init keystead.dev/tests/cluster 2>/dev/null
  go mod edit -go="$go_needed"
  go list -m >/dev/null 2>go.err ||
    die "Kubernetes $version needs Go $go_needed or newer; found $(GOTOOLCHAIN=local go env GOVERSION): $(<go.err)"

  edits=(-require="k8s.io/kubernetes@$version")
  while read -r module; do
    edits+=(-replace="$module=$module@v0.${version#v1.}")
  done < <(sed -n 's#^\t\(k8s.io/[a-z-]*\) => ./staging/.*#\1#p' "$go_mod")
  ((${#edits[@]} > 20)) || die "found only ${#edits[@]} staging modules in the go.mod of Kubernetes $version"
  go mod edit "${edits[@]}"
}

build_binary() {
  local version=$1 name=$2 package flags packages started=$SECONDS
  flags="-s -w"
  case $name in
    etcd) package=./etcd ;;
    *)
      package=k8s.io/kubernetes/cmd/$name
      # Without these the server reports v0.0.0 and clients cannot tell which release they talk to.
      flags+=" $(version_flags "$version")"
      ;;
  esac
  packages=$(go list -deps "$package" | wc -l)
  say "$version: building $name ($packages packages)"
  # `go build -v` names each package that had to be compiled; every 200th line is progress enough. Lines that are not
  # a lone package name are messages.
  nice go build -v -trimpath -ldflags "$flags" -o "bin/$name" "$package" 2>&1 |
    awk '/^[^ #:]+$/ { if (++n % 200 == 0) { print "  " n " packages compiled"; fflush() } next } { print; fflush() }'
  answers_version "$version" "$name" || die "the new $name does not report version $version"
  say "$version: built $name in $((SECONDS - started)) s"
}

version_flags() {
  local version=$1 minor=${1#v1.} prefix=k8s.io/component-base/version
  printf -- '-X %s=%s ' \
    "$prefix.gitVersion" "$version" \
    "$prefix.gitMajor" 1 \
    "$prefix.gitMinor" "${minor%%.*}" \
    "$prefix.gitTreeState" archive
}

answers_version() {
  local version=$1 name=$2
  case $name in
    etcd) [[ $(bin/etcd --version) == "etcd Version: 3."* ]] ;;
    kubeadm) [[ $(bin/kubeadm version -o short) == "$version" ]] ;;
    kubectl) [[ $(bin/kubectl version --client) == "Client Version: $version"* ]] ;;
    *) [[ $("bin/$name" --version) == "Kubernetes $version" ]] ;;
  esac
}

main "$@"
