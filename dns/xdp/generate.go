package xdp

// The compiled program is committed, so that a build needs no clang. To make it
// anew: apt-get install clang llvm libbpf-dev; make generate.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -target bpfel -type asked -type elsewhere answer bpf/answer.c -- -O2 -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
