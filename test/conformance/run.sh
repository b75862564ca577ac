#!/usr/bin/env bash
# Runs upstream's suite: FOCUS, SKIP and NODES from the environment, or flags
# (run.sh -help).
set -euo pipefail
cd "$(dirname "$0")/../.."
exec go run -tags no_btrfs,no_devmapper,no_zfs,osusergo,netgo ./test/conformance "$@"
