//go:build !failpoint

package attach

// step is a place between two steps where tests kill the process.
func step(string) {}
