// Package crilog reads the log files a container runtime writes in CRI's format: from any point,
// with lines put together again that the runtime had cut, and on while the file grows and is
// rotated under the reader. It knows no pods: it is given a directory and a file name.
//
// Flow: agent/server containerLogs -> Reader.Read -> the client.
//
// Touches: the log directory (through os.Root, so that no symbolic link leads out of it), inotify,
// /proc/self/fd.
//
// Invariants:
//   - Every line that a reader begins with or that is written while it follows is given exactly
//     once, and in the order of the file, however often the file is rotated: rotation renames the
//     file NAME to NAME.SUFFIX with suffixes that sort by time, and makes a new NAME.
//   - A tail is found from the end; the file before it is not read.
//   - Memory is bounded whatever the file holds.
package crilog
