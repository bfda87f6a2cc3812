#!/usr/bin/env bash
# Builds promtool and prometheus from their published Go module, for the tests of alerts and of the dashboard.
#
# They are kept outside of the tree, in ${KEYSTEAD_CACHE:-${XDG_CACHE_HOME:-~/.cache}/keystead}/prometheus/VERSION/.
# What is there already is not built again. With cold Go caches it takes some minutes on two cores.
set -euo pipefail

version=v0.316.0 # of the module; the release is v3.16.0
cache=${KEYSTEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keystead}/prometheus/$version

command -v go >/dev/null || { echo "build.sh: no 'go' in PATH, see https://go.dev/doc/install" >&2; exit 1; }
mkdir -p "$cache"
work=$(mktemp -d "$cache/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false" GOWORK=off
# Its go.mod excludes versions of others, so `go install` refuses it: a module of our own requires it instead.
go mod init keystead.dev/prometheus 2>/dev/null
go get "github.com/prometheus/prometheus@$version" 2>/dev/null
for name in promtool prometheus; do
  [[ -x $cache/$name ]] && continue
  # Without the service discovery of clouds, whose SDKs are most of it: tests scrape fixed addresses.
  echo "$name $version: building"
  go build -p "${BUILD_JOBS:-2}" -tags remove_all_sd -trimpath -ldflags '-s -w' -o "$work/$name" "github.com/prometheus/prometheus/cmd/$name"
  mv "$work/$name" "$cache/$name"
done
echo "complete, in $cache"
