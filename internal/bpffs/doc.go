// Package bpffs finds, and where it is missing mounts, the file system that
// eBPF objects are pinned in, so that they outlive the daemon. It knows nothing
// of what is pinned. Part of the flow EndpointSlice -> kernel: proxy/ebpf.
//
// Touches: the mount at /sys/fs/bpf. For those who try something, file systems that are mounted nowhere.
//
// Invariants:
//   - A mount that is there is left as it is.
//   - Of a trial nothing outlives its process.
//   - Nothing at Root is unmounted: other programs may have pinned something by then.
package bpffs
