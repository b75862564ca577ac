// Package cgroup is the door to the cgroup file system: it makes and removes the tree that pods
// live in and reads what they use. It kills nothing, and knows neither containers nor the API
// beyond a pod's resources. Flow: agent/execute.go -> Tree.Ensure -> kernel; kernel -> Tree.Usage
// -> agent/server (stats), agent/evict.
//
// Touches: /sys/fs/cgroup (cgroup v1, v2 and the hybrid of both), by plain files: the cgroupfs
// driver. With the systemd driver slices are made and ended through internal/units, and the same files are
// written: they have what systemd does not know of (huge pages).
//
// Invariants:
//   - Only what is below the configured root is ever changed, and a pod's cgroup is known by its
//     name "pod<uid>": a restarted daemon finds all of its own again by listing them.
//   - Ensure and Remove may be repeated at any time; the result is the same.
//   - A cgroup with processes in it is not removed.
//   - A missing controller costs its limits and nothing else: that is logged once.
package cgroup
