#!/usr/bin/env bash
# Serves with a throw-away local key, calls the socket as kube-apiserver does, and stops. usage: demo.sh [KEYSTEAD]
set -euo pipefail
keystead=${1:-keystead}
KEYSTEAD_DEV_DIR=$(mktemp -d -t keystead-demo-XXXXXX)
export KEYSTEAD_DEV_DIR

"$keystead" serve --dev 2>"$KEYSTEAD_DEV_DIR/serve.log" &
plugin=$!
finish() {
  kill "$plugin" 2>/dev/null || true
  wait "$plugin" || true
  rm -rf "$KEYSTEAD_DEV_DIR"
}
trap finish EXIT

"$(dirname "$0")/call.sh" "unix://$KEYSTEAD_DEV_DIR/kms.sock" "$KEYSTEAD_DEV_DIR/state/main/current" "$keystead" ||
  { cat "$KEYSTEAD_DEV_DIR/serve.log" >&2; exit 1; }
