#!/usr/bin/env bash
# Compiles the eBPF programs anew and fails when that does not give the
# committed files, byte by byte. The tree is left as it was. Needs the compiler
# that they were made with: clang 14, as Debian 12 has it.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOWORK=off CGO_ENABLED=0
major=$(clang -dumpversion | cut -d. -f1)
if [ "$major" != 14 ]; then
	echo "generate-check: the objects were made with clang 14 (Debian 12), and this is clang $major: they would differ" >&2
	exit 1
fi
keep=$(mktemp -d)
restore() {
	for dir in proxy/ebpf dns/xdp; do
		[ -d "$keep/$dir" ] && cp "$keep/$dir"/* "$dir"/
	done
	rm -rf "$keep"
}
trap restore EXIT
failed=0
for dir in proxy/ebpf dns/xdp; do
	mkdir -p "$keep/$dir"
	cp "$dir"/*_bpfel.go "$dir"/*_bpfel.o "$keep/$dir"/
	go generate "./$dir"
	for file in "$dir"/*_bpfel.*; do
		if ! cmp -s "$file" "$keep/$file"; then
			echo "generate-check: $file is not what its sources give: run make generate, and commit it" >&2
			failed=1
		fi
	done
done
[ "$failed" = 0 ] && echo "the eBPF objects are what their sources give"
exit "$failed"
