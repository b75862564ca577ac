package ebpf

// The compiled programs are committed, so that a build needs no clang. To make
// them anew: hack/deps.sh bpf; make generate. That what is committed is what the
// sources give, make generate-check tells.

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -target bpfel -type how -type frontend_flags -type port_flags -type member_flags -type flow_flags -type drop -type mark proxy bpf/proxy.c -- -O2 -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -target bpfel -no-global-types ended bpf/ended.c -- -O2 -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -target bpfel -type exit -type exit_flags -no-global-types forward bpf/forward.c -- -O2 -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
