#!/bin/sh
# Waits for a plugin, calls its socket as kube-apiserver does, and says what it keeps. Ends with 0 if all is well.
# usage: call.sh ENDPOINT STATE_FILE [KEYSTEAD]; PATIENCE is how many seconds the plugin may take to be ready
set -eu
endpoint=$1
state=$2
keystead=${3:-keystead}

# A plugin that has just started answers that its first key is being made, or does not answer yet.
ends=$(($(date +%s) + ${PATIENCE:-20}))
until report=$("$keystead" self-test --endpoint "$endpoint" 2>&1); do
  if [ "$(date +%s)" -ge "$ends" ]; then
    echo "$endpoint is not ready:"
    echo "$report"
    exit 1
  fi
  sleep 0.5
done

echo
echo "What kube-apiserver will do with this socket (KMS v2):"
"$keystead" self-test --endpoint "$endpoint"
echo
echo "What an old cluster would do (KMS v1):"
"$keystead" self-test --endpoint "$endpoint" --api v1beta1
echo
echo "What the plugin keeps on disk, wrapped, so that a restart goes on with the same key:"
"$keystead" inspect "$state"
echo
echo "Done: a seed was wrapped and unwrapped through $endpoint"
