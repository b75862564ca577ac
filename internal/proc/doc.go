// Package proc finds, signals and awaits processes of this program that are
// not children: a daemon or control plane left by an earlier start, known by
// its pid file. It also sets this process' own oom_score_adj. It starts nothing (internal/supervise does).
//
// Touches: /proc, pidfds, pid files.
//
// Invariants: a pid from a file is believed only when the command line of the
// process says it is the one meant, so that a reused pid is never signalled.
package proc
