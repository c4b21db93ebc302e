#!/usr/bin/env bash
# All tests: format, vet, Go with the race detector, the wire's decoders fuzzed for seconds, the dashboard's units. Prints a
# line a package, everything about a package that fails, and at the end what was left out and how to get it. Called by `make test`, which builds first.
#
# RUN=regexp runs only matching Go tests, PACKAGES=./x/... only some packages.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/node.sh
GO="${GO:-go}"
PATH="$PATH:$("$GO" env GOPATH)/bin"
left_out="$(mktemp)"
trap 'rm -f "$left_out"' EXIT
failed=''

step() { # NAME COMMAND...
    local name="$1"
    shift
    "$@" || failed="$failed $name"
}

# leave_out notes what this machine cannot test; in CI that is a failure.
leave_out() {
    echo "$1" >>"$left_out"
    [ "${CI:-}" != true ] || failed="$failed missing-parts"
}

race=(-race)
# Each program with the race detector, such as a package's tests, sleeps for a second as it ends, unless told otherwise.
export GORACE="atexit_sleep_ms=20 ${GORACE:-}"
if [ "$("$GO" env CGO_ENABLED)" != 1 ] || ! command -v "$("$GO" env CC)" >/dev/null; then
    race=()
    leave_out "the race detector: it needs a C compiler (apt-get install gcc libc6-dev)"
fi

go_tests() {
    # Two packages at a time: the tests start real servers, and timings on a small machine stay honest.
    "$GO" test "${race[@]}" -v -p 2 -timeout 20m ${RUN:+-run "$RUN"} ${PACKAGES:-./...} 2>&1 |
        awk -v left_out="$left_out" -f scripts/test-summary.awk
}

step gofmt scripts/check-format.sh
step vet "$GO" vet ./...
step go-test go_tests
# What devices send, as bytes; make fuzz has all decoders, and for longer.
[ -n "${RUN:-}${PACKAGES:-}" ] || step fuzz env PACKAGES=wire FUZZTIME=1s scripts/fuzz.sh
fault="$(node_fault)"
if [ -n "$fault" ]; then
    leave_out "the dashboard's own tests: $fault"
else
    (cd web && npm test --silent) || failed="$failed dashboard"
fi

if [ -s "$left_out" ]; then
    printf '\nleft out on this machine:\n'
    sort -u "$left_out" | sed 's/^/  /'
fi
if [ -n "$failed" ]; then
    printf '\nFAILED:%s\n' "$failed"
    exit 1
fi
printf '\nall tests passed\n'
