#!/usr/bin/env bash
# Runs every fuzz target of the root module for the given time each.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s}
grep -rl --include='*_test.go' '^func Fuzz' . --exclude-dir=controlplane | while read -r file; do
  pkg=$(dirname "$file")
  grep -o '^func Fuzz[A-Za-z0-9_]*' "$file" | cut -d' ' -f2 | while read -r target; do
    echo "== $pkg $target"
    GOWORK=off go test "$pkg" -run '^$' -fuzz "^$target\$" -fuzztime "$time"
  done
done
