#!/usr/bin/env bash
# Fuzzes each decoder for FUZZTIME, one after the other: all of them, or those of PACKAGES. What breaks one is kept in
# its package's testdata/fuzz, and is a test from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
GO="${GO:-go}"
failed=''
for folder in $(grep -rl --include='*_test.go' --exclude-dir=node_modules '^func Fuzz' ${PACKAGES:-.} | xargs -n1 dirname | sort -u); do
    folder="${folder#./}"
    for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$folder"/*_test.go); do
        started=$SECONDS
        if "$GO" test "./$folder" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-5s}" >"${TMPDIR:-/tmp}/fuzz.$$" 2>&1; then
            printf 'ok  \t%s %s\t%ss\t%s\n' "$folder" "$target" $((SECONDS - started)) "$(grep -o 'execs: [0-9]*' "${TMPDIR:-/tmp}/fuzz.$$" | tail -1)"
        else
            cat "${TMPDIR:-/tmp}/fuzz.$$"
            failed="$failed $target"
        fi
        rm -f "${TMPDIR:-/tmp}/fuzz.$$"
    done
done
if [ -n "$failed" ]; then
    echo "FAILED:$failed" >&2
    exit 1
fi
