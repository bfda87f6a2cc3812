#!/bin/sh
# Makes what the other services find in their volumes: a private CA with one certificate for all servers, the keys of
# kube-apiserver, and the right owner. May be run again; what is there stays.
set -eu
umask 077
volumes=${VOLUMES:-/volumes}
owner=${OWNER:-65532:65532}
here=$(dirname "$0")

# The other services read these files as another user. A checkout made under umask 077 keeps them out.
hidden=$(find "$here" ! -perm -o=r | head -n 1)
if [ "${owner%:*}" != "$(id -u)" ] && [ -n "$hidden" ]; then
  echo "prepare: $hidden is not readable for user ${owner%:*}: chmod -R o+rX docker examples" >&2
  exit 1
fi

if ! [ -e "$volumes/ca/ca.crt" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # The CA signs once. Its key goes with the working directory.
  openssl ecparam -genkey -name prime256v1 -noout -out "$work/ca.key"
  openssl req -x509 -new -key "$work/ca.key" -days 3650 -subj /CN=keystead-compose -out "$work/ca.crt"
  openssl ecparam -genkey -name prime256v1 -noout -out "$volumes/tls/server.key"
  openssl req -new -key "$volumes/tls/server.key" -subj /CN=server -out "$work/server.csr"
  cat >"$work/extensions" <<EOF
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:transit, DNS:kube-apiserver, DNS:localhost, IP:127.0.0.1
EOF
  openssl x509 -req -in "$work/server.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -CAcreateserial -days 3650 \
    -extfile "$work/extensions" -out "$volumes/tls/server.crt" 2>/dev/null
  # Last, for it says that all of this is there.
  mv "$work/ca.crt" "$volumes/ca/ca.crt"
fi

if ! [ -e "$volumes/cluster/tokens.csv" ]; then
  openssl ecparam -genkey -name prime256v1 -noout -out "$volumes/cluster/service-accounts.key"
  openssl rand -hex 16 >"$volumes/cluster/token"
  echo "$(cat "$volumes/cluster/token"),admin,admin,system:masters" >"$volumes/cluster/tokens.csv"
fi

chown -R "$owner" "$volumes"/*
chmod 0700 "$volumes"/*
echo "the volumes are ready: $(ls "$volumes" | tr '\n' ' ')"
