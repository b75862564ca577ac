// Package stats measures what this machine, the pods on it and their containers use, when somebody
// asks. It shows nothing (agent/server does) and decides nothing (agent/evict does), and it keeps no
// history: a rate is the asker's affair.
//
// Flow: agent/server, agent/evict -> Stats.Read or Stats.Node -> internal/cgroup, /proc, statfs(2);
// what takes long (writable layers by CRI, the size of directories) -> figures, a loop of its own,
// whose last answer Read gives with the time it was taken at.
//
// Touches: for reading only: cgroup files, /proc, file systems, pod log directories, local volumes,
// the runtime's ListContainerStats and ImageFsInfo.
//
// Invariants:
//   - A runtime or a file system that hangs makes figures old, never Read slow.
//   - Nothing is measured that nobody asks for.
//   - A directory is walked at most once a minute, one at a time, at most half of the time, never
//     across a mount, and a file with several names is counted once.
package stats
