#!/usr/bin/env bash
# Fuzz each parser for the given number of seconds (60), beginning with the inputs of tests/vectors and tests/snapshots.
# Needs a C++ compiler and a stable Rust, and no cargo-fuzz: this sets the flags that cargo-fuzz would.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

# libFuzzer's instrumentation is an unstable compiler flag; this lets a stable compiler take it.
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
flags="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
  flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
flags+=" --cfg fuzzing -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
flags+=" -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1"

corpus() { # target, kinds of vectors
  mkdir -p "fuzz/corpus/$1"
  python3 - "fuzz/corpus/$1" "$2" <<'PYTHON'
import pathlib, re, sys
target, kinds = pathlib.Path(sys.argv[1]), sys.argv[2].split("|")
for path in pathlib.Path("../tests/vectors").rglob("*"):
    if path.is_file() and not path.suffix.startswith((".py", ".md")):
        head, body = path.read_text().split("\n\n")
        if re.search(r"^kind: (.*)$", head, re.M)[1] in kinds:
            (target / path.name).write_bytes(bytes.fromhex(body))
PYTHON
}

corpus record 'record'
corpus seed 'seed'
corpus v1_cipher 'v1-cipher'
corpus state_file 'state-file'
corpus requests 'decrypt-v2|decrypt-v1|encrypt-v2|encrypt-v1'

# The targets put the parts in front that every value of theirs has.
mkdir -p fuzz/corpus/snapshot fuzz/corpus/stored
cp ../tests/snapshots/*-few.db fuzz/corpus/snapshot/
for name in fuzz/corpus/v1_cipher/*; do
  python3 -c 'import sys; b = open(sys.argv[1], "rb").read(); sys.stdout.buffer.write(b"v1:k:" + len(b).to_bytes(2) + b)' \
    "$name" > "fuzz/corpus/stored/${name##*/}"
done

(cd fuzz && RUSTFLAGS=$flags cargo build --release --locked --target "$host" --bins)

for target in record seed v1_cipher state_file requests snapshot stored; do
  mkdir -p "fuzz/artifacts/$target"
  "fuzz/target/$host/release/$target" -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" \
    -max_len=66000 -timeout=10 -print_final_stats=1 "fuzz/corpus/$target"
done
