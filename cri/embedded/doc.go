// Package embedded runs containerd v2 inside this process: its own plugins, a hand-picked few, with
// a root and a state directory of their own, and CRI called without a socket.
//
// It does not change containerd, and it does not decide what runs: it is one of the two ways to get
// a cri.Runtime (the other is cri.Dial). Images that come as archives are imported here, too, into
// the embedded containerd or over the socket of an external one.
//
// Flow: node -> Start -> Server.Runtime -> agent; `nodelet images import` -> Import; `nodelet reset`
// -> Reset.
//
// Touches: Config.Root and Config.State, unix sockets in the latter; processes (shims, runc); mounts
// and network namespaces below both directories; the process-wide logrus logger that containerd uses.
//
// Invariants:
//   - Shims and containers outlive this process, however it ends; the next Start adopts them.
//   - One process per root: a lock file is held while it runs.
//   - Pods do not wait for the disk: containerd's databases are on a tmpfs, an archive of them on the disk.
//   - containerd keeps its plugin configuration in package variables, so a process starts it once.
//   - Nothing below Config.State belongs to anybody else: Reset kills and removes all of it.
package embedded
