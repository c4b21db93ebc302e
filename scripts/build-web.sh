#!/usr/bin/env bash
# Builds the dashboard into web/dist if its sources are newer than the last build. Without Node the hub is built all the
# same and shows a page that says so; with CI=true that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/node.sh

fault="$(node_fault)"
if [ -n "$fault" ]; then
    echo "dashboard left out: $fault" >&2
    [ "${CI:-}" != true ] || exit 1
    exit 0
fi

cd web
stamp=node_modules/.installed
if [ ! -e "$stamp" ] || [ package-lock.json -nt "$stamp" ] || [ package.json -nt "$stamp" ]; then
    npm ci --no-audit --no-fund --loglevel=error
    touch "$stamp"
fi
if [ -e dist/index.html ]; then
    newer="$(find . \( -path ./node_modules -o -path ./dist -o -path ./tests \) -prune -o -type f ! -name '*.go' -newer dist/index.html -print -quit)"
    [ -n "$newer" ] || exit 0
fi
npm run build --silent
