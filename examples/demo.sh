#!/usr/bin/env bash
# Serves with a throw-away local key, calls the socket as kube-apiserver does, and stops. usage: demo.sh [KEYSTEAD]
set -euo pipefail
keystead=${1:-keystead}
KEYSTEAD_DEV_DIR=$(mktemp -d -t keystead-demo-XXXXXX)
export KEYSTEAD_DEV_DIR
endpoint=unix://$KEYSTEAD_DEV_DIR/kms.sock

"$keystead" serve --dev 2>"$KEYSTEAD_DEV_DIR/serve.log" &
plugin=$!
finish() {
  kill "$plugin" 2>/dev/null || true
  wait "$plugin" || true
  rm -rf "$KEYSTEAD_DEV_DIR"
}
trap finish EXIT

# self-test waits for the socket; an answer that is not ok yet means that the first key is being made.
for _ in $(seq 50); do
  if "$keystead" self-test --endpoint "$endpoint" >/dev/null 2>&1; then break; fi
  kill -0 "$plugin" 2>/dev/null || { cat "$KEYSTEAD_DEV_DIR/serve.log" >&2; exit 1; }
  sleep 0.1
done

echo
echo "What kube-apiserver will do with this socket (KMS v2):"
"$keystead" self-test --endpoint "$endpoint"
echo
echo "What an old cluster would do (KMS v1):"
"$keystead" self-test --endpoint "$endpoint" --api v1beta1
echo
echo "What the plugin keeps on disk, wrapped, so that a restart goes on with the same key:"
"$keystead" inspect "$KEYSTEAD_DEV_DIR/state/main/current"
echo
echo "Done: a seed was wrapped and unwrapped through $endpoint"
