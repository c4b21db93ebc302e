#!/usr/bin/env bash
# Installs the Node clients of others that the tests of cmd/hub use. Called by those tests.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/node.sh

fault="$(node_fault)"
if [ -n "$fault" ]; then
    echo "$fault" >&2
    exit 1
fi
cd cmd/hub/testdata/clients
stamp=node_modules/.installed
if [ ! -e "$stamp" ] || [ package-lock.json -nt "$stamp" ] || [ package.json -nt "$stamp" ]; then
    npm ci --no-audit --no-fund --loglevel=error
    touch "$stamp"
fi
