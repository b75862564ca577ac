#!/usr/bin/env bash
# Runs the linters of .golangci.yml (a Go tool pinned in tools/go.mod) on every module.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(git ls-files '*.go' | xargs gofmt -l)
if [ -n "$unformatted" ]; then
  printf 'not gofmt-ed (run make fmt):\n%s\n' "$unformatted" >&2
  exit 1
fi
mkdir -p .cache
# The flags of the build, so that nothing is compiled twice.
export GOWORK=off CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
(cd tools && go build -o ../.cache/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint)
.cache/golangci-lint run --timeout 15m ./...
(cd bench && ../.cache/golangci-lint run --config ../.golangci.yml --timeout 15m ./...)
(cd controlplane && ../.cache/golangci-lint run --config ../.golangci.yml --timeout 15m ./...)
