//go:build race

package embedded

// raceDetector: with it, containerd's libraries use a lock checker that knows Go's goroutines only up
// to some older version, takes every second reader for a deadlock, and ends the process.
const raceDetector = true
