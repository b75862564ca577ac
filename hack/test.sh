#!/usr/bin/env bash
# Runs all tests of both modules. As root that includes the ones that need the
# kernel, the container runtime and the whole product; otherwise those are
# skipped, and the end of the output says how many and why.
set -uo pipefail
cd "$(dirname "$0")/.."
# The flags of the build, so that nothing is compiled twice.
export GOWORK=off CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false" PATH=$PATH:/usr/sbin:/sbin
tags=no_btrfs,no_devmapper,no_zfs,osusergo,netgo
log=$(mktemp)
trap 'rm -f "$log"' EXIT
fail=0
if [ "$(id -u)" -ne 0 ]; then
  echo "Not root: the tests of the kernel, the runtime and the whole product are skipped. For all: sudo make test"
fi
# run MODULE-DIRECTORY GO-TEST-ARGUMENTS: all output into the log, its results onto the screen.
run() {
  local dir=$1
  shift
  (cd "$dir" && go test -v "$@" ./... 2>&1) | tee -a "$log" |
    grep --line-buffered -E '^(ok|FAIL|panic|--- FAIL|    --- FAIL)|^# |build failed'
  [ "${PIPESTATUS[0]}" -eq 0 ] || fail=1
}
# -p 2: packages that start whole nodes share the machine with few others.
run . -tags "$tags" -p 2 -timeout 20m
run controlplane -timeout 15m
if [ "$fail" -ne 0 ]; then
  echo
  echo "What failed, with its output:"
  # The lines of each failed test, its first ones: the rest is what it shows of the state of the kernel.
  awk -v most=150 '
    /^=== (RUN|NAME|CONT) / { current = $3; next }
    /^=== PAUSE / || /^ *--- (PASS|SKIP): / { next }
    /^ *--- FAIL: / { failed[++count] = $3; next }
    /^(ok|FAIL|\?) *\t/ {
      if ($1 == "FAIL") {
        failed[++count] = "" # what no test has said: a build, TestMain
        for (i = 1; i <= count; i++) if (lines[failed[i]] > 0) {
          printf "\n%s %s\n%s", $2, failed[i], text[failed[i]]
          if (lines[failed[i]] > most) printf "    (%d more lines)\n", lines[failed[i]] - most
        }
      }
      split("", failed); split("", lines); split("", text); count = 0; current = ""; next
    }
    /^(PASS|FAIL)$/ { next }
    ++lines[current] <= most { text[current] = text[current] $0 "\n" }' "$log"
fi
passed=$(grep -c -E '^ *--- PASS' "$log")
failed=$(grep -c -E '^ *--- FAIL' "$log")
skipped=$(grep -c -E '^ *--- SKIP' "$log")
if [ "$skipped" -gt 0 ]; then
  echo
  echo "Skipped tests, by reason:"
  awk '
    /^=== (RUN|NAME|CONT) / { current = $3; next }
    /^ +[A-Za-z0-9_]+\.go:[0-9]+: / { said = $0; sub(/^ +[A-Za-z0-9_]+\.go:[0-9]+: /, "", said); why[current] = said }
    /^ *--- SKIP: / { print "  " why[$3] }
    /^(ok|FAIL|\?) *\t/ { split("", why); current = "" }' "$log" | sort | uniq -c | sort -rn
fi
[ "$fail" -eq 0 ] || [ "$failed" -gt 0 ] || failed=1
echo
echo "$passed passed, $failed failed, $skipped skipped"
exit "$fail"
