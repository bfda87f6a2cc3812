#!/usr/bin/env bash
# From nothing to a provider that serves beside Keystead, with the time that each step takes. Everything goes into
# DIRECTORY. usage: vendor.sh DIRECTORY KEYSTEAD     KEYSTEAD: a wheel of it, or anything else that pip installs
set -euo pipefail
mkdir -p "$1"
directory=$(cd "$1" && pwd)
keystead=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_QUIET=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
step() { printf '%4d s  %s\n' "$SECONDS" "$1"; }

cd "$directory"
step "an environment for the author, with Keystead and its conformance kit"
python3 -m venv author
author/bin/pip install "${keystead}[testing]"

step "keystead provider new acme"
author/bin/keystead provider new acme --directory keystead-acme > new.log

step "the SDK of Acme KMS, a package of its own, takes the place of the stand-in"
mkdir -p acme-sdk/src/acme_sdk
mv keystead-acme/src/keystead_acme/toy_sdk.py acme-sdk/src/acme_sdk/__init__.py
cat > acme-sdk/pyproject.toml << 'END'
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "acme-sdk"
version = "1.4.0"
requires-python = ">=3.11"

[tool.hatch.build.targets.wheel]
packages = ["src/acme_sdk"]
END
sed -i 's/keystead_acme\.toy_sdk/acme_sdk/' keystead-acme/src/keystead_acme/__init__.py
sed -i 's/^dependencies = .*/dependencies = ["keystead>=0.1", "acme-sdk>=1.4"]/' keystead-acme/pyproject.toml
author/bin/pip install ./acme-sdk
author/bin/pip install -e './keystead-acme[test]'

step "its tests"
(cd keystead-acme && ../author/bin/pytest -q --keystead-report ../report.json > ../tests.log) ||
  { cat tests.log >&2; exit 1; }
tail -n 3 tests.log

step "packages to publish"
author/bin/pip wheel --no-deps --wheel-dir dist ./acme-sdk ./keystead-acme

step "a node: a fresh environment with Keystead, the provider and its SDK from their packages"
python3 -m venv node
node/bin/pip install "$keystead" dist/acme_sdk-*.whl dist/keystead_acme-*.whl
node/bin/pip check
node/bin/keystead provider info acme | head -n 4

step "Acme KMS, which is the kit's fake here, and Keystead in front of it"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
author/bin/python -m keystead.testing.fake_kms --port "$port" --token-file token --state acme.keys &
service=$!
plugin=
finish() {
  for one in $plugin $service; do kill "$one" 2> /dev/null || true; done
  wait
}
trap finish EXIT
until (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do
  kill -0 "$service"
  sleep 0.1
done
node/bin/keystead serve --socket "unix://$directory/kms.sock" --provider acme --cluster dev --state-dir "$directory/state" \
  --set "address=http://127.0.0.1:$port" --set key=k1 --set "tokenFile=$directory/token" 2> serve.log &
plugin=$!
until node/bin/keystead self-test --endpoint "unix://$directory/kms.sock" > self-test.log 2>&1; do
  kill -0 "$plugin" || { cat serve.log >&2; exit 1; }
  sleep 0.2
done
tail -n 1 self-test.log
step "done"
