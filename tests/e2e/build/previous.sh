#!/usr/bin/env bash
# Builds an earlier Keystead from this repository, and prints the command that starts it, for KEYSTEAD_E2E_PREVIOUS.
#
# usage: previous.sh [REVISION]        REVISION is a tag or commit; the default is the newest tag
#
# It is kept outside of the tree, in ${KEYSTEAD_CACHE:-${XDG_CACHE_HOME:-~/.cache}/keystead}/previous/COMMIT/. What is
# there already is not built again. Needs Python and Rust as the tree does; a cold build takes a few minutes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${KEYSTEAD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keystead}/previous
python=${PYTHON:-python3}

say() { printf '%s\n' "$*" >&2; }
die() { say "previous.sh: $*"; exit 1; }

main() {
  local revision=${1:-} commit home
  cd "$here"
  [[ -n $revision ]] || revision=$(git describe --tags --abbrev=0 2>/dev/null) ||
    die "this repository has no tag yet: name a commit, as in previous.sh HEAD~10"
  commit=$(git rev-parse --verify --quiet --short=12 "$revision^{commit}") || die "'$revision' is not a commit here"
  home=$cache/$commit
  if [[ -x $home/bin/keystead ]]; then
    say "$revision ($commit): built already, in $home"
  else
    (build "$revision" "$commit" "$home")
  fi
  printf '%s\n' "$home/bin/keystead"
}

# A virtual environment cannot be moved, so it is made in its place; only a complete one has bin/keystead.
build() {
  local revision=$1 commit=$2 home=$3 work started=$SECONDS
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/.work.XXXXXX")
  trap "rm -rf ${work@Q}" EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  git -C "$(git rev-parse --show-toplevel)" archive "$commit" | tar -x -C "$work"
  say "$revision ($commit): building in $home"
  "$python" -m venv --clear "$home"
  "$home/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$work/requirements/run.txt" >&2
  # The compiled dependencies are the same for most commits, so all of them share what cargo has built.
  CARGO_TARGET_DIR=$cache/rust "$home/bin/pip" install --quiet --disable-pip-version-check --no-deps "$work" >&2
  say "$revision ($commit): built in $((SECONDS - started)) s"
}

main "$@"
