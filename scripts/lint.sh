#!/usr/bin/env bash
# golangci-lint with .golangci.yml where it is installed, else what comes with Go.
set -euo pipefail
cd "$(dirname "$0")/.."
GO="${GO:-go}"
PATH="$PATH:$("$GO" env GOPATH)/bin"
version=v2.15.0

if command -v golangci-lint >/dev/null; then
    golangci-lint run ./...
    exit
fi
echo "golangci-lint is missing, so only gofmt and vet run: $GO install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version" >&2
scripts/check-format.sh
"$GO" vet ./...
