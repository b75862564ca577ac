// Package inotify asks the kernel to tell of changes in a directory. It does
// not say what changed: whoever asks looks again.
//
// Touches: one inotify instance for each call of Watch, until its file is closed.
package inotify
