#!/bin/sh
# Builds pause-<arch> from pause.c: `go generate ./cri/embedded/pause`. Needs Debian's gcc and, for
# arm64, gcc-aarch64-linux-gnu. The results are committed, so that building nodelet needs only Go;
# they are the same, byte for byte, whenever the compiler is.
set -eu
cd "$(dirname "$0")"
out=${1:-..}

build() { # architecture as Go names it, compiler, flags of the architecture
	arch=$1 cc=$2
	shift 2
	if ! command -v "$cc" >/dev/null; then
		echo "pause: $cc is not installed, pause-$arch stays as it is" >&2
		return
	fi
	"$cc" "$@" -Os -Wall -Wextra -Werror -std=gnu11 -ffreestanding -nostdlib -static -no-pie -fno-pic \
		-mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables -fno-ident \
		-Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,norelro -Wl,-z,noexecstack -Wl,-s \
		-o "$out/pause-$arch" pause.c
}

build amd64 x86_64-linux-gnu-gcc -fcf-protection=none
build arm64 aarch64-linux-gnu-gcc
