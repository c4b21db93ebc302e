#!/usr/bin/env bash
# Fails with the list of Go files that gofmt would change.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted="$(find . \( -name node_modules -o -name '.?*' \) -prune -o -name '*.go' -exec gofmt -l {} +)"
if [ -n "$unformatted" ]; then
    printf 'gofmt would change:\n%s\n' "$unformatted" >&2
    exit 1
fi
