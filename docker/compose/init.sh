#!/bin/sh
# Makes an OpenBao or Vault ready for Keystead: initialised and unsealed, a Transit key, a policy for this key and nothing
# else, and an AppRole with that policy. May be run again: after a restart of the server it unseals.
# usage: init.sh [COMMAND...]; COMMAND is run afterwards with the operator's rights, such as
#   init.sh bao write -f transit/keys/k8s/rotate
# Both clients read VAULT_ADDR and VAULT_CACERT.
set -eu
umask 077
client=${CLIENT:-bao}
operator=${OPERATOR_DIR:-/operator} # the unseal key and the root token: nobody else may read them
plugin=${PLUGIN_DIR:-/approle}      # what the plugin logs in with
policy=${POLICY:-$(dirname "$0")/policy.hcl}

say() { echo "init: $*" >&2; }
# The answer goes to a log, for some of them show a secret.
run() { "$client" "$@" >"$operator/last" 2>&1 || { say "$client $1 $2 failed:"; cat "$operator/last" >&2; return 1; }; }
patiently() {
  for _ in $(seq 60); do
    if "$@"; then return; fi
    sleep 0.5
  done
  say "no answer within 30 s from $VAULT_ADDR: $*"
  return 1
}
# status ends with 0 if unsealed and 2 if sealed; 1 means that nobody answers.
answers() { "$client" status >/dev/null 2>&1 || [ $? = 2 ]; }
active() { "$client" token lookup >/dev/null 2>&1; }

patiently answers
if ! "$client" operator init -status >/dev/null 2>&1; then
  "$client" operator init -key-shares=1 -key-threshold=1 >"$operator/keys"
  say "initialised with one unseal key; in earnest there are several, and several people who hold them"
elif ! [ -s "$operator/keys" ]; then
  say "$VAULT_ADDR is initialised, but its keys are not in $operator: only 'down --volumes' and a new start help"
  exit 1
fi
# Secrets go through standard input and the environment, never through arguments, which other processes see.
sed -n 's/^Unseal Key 1: //p' "$operator/keys" | tr -d '\n' | run write sys/unseal key=-
VAULT_TOKEN=$(sed -n 's/^Initial Root Token: //p' "$operator/keys")
export VAULT_TOKEN
patiently active

"$client" secrets list | grep -q '^transit/' || run secrets enable transit
run write -f transit/keys/k8s
run policy write keystead "$policy"
"$client" auth list | grep -q '^approle/' || run auth enable approle
run write auth/approle/role/keystead token_policies=keystead token_period=1h secret_id_num_uses=0 token_num_uses=0
"$client" read -field=role_id auth/approle/role/keystead/role-id >"$plugin/role-id"
# A secret ID that still logs in is kept.
if ! "$client" write auth/approle/login role_id=@"$plugin/role-id" secret_id=@"$plugin/secret-id" >/dev/null 2>&1; then
  "$client" write -field=secret_id -f auth/approle/role/keystead/secret-id >"$plugin/secret-id.new"
  mv "$plugin/secret-id.new" "$plugin/secret-id"
fi
say "transit/keys/k8s is ready, and so is the AppRole keystead"

if [ $# -gt 0 ]; then exec "$@"; fi
