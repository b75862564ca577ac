// Package logs rotates the log files of running containers: it renames a file that has grown too
// large, has the runtime begin a new one, compresses the older ones and removes the oldest. It does
// not decide what is to be done to which file (logplan does), does not read logs (agent/server/crilog
// does), and does not remove the logs of removed containers (agent does, with the container).
//
// Flow: store.Runtime -> Rotator.look (every ten seconds) -> one round per file: logplan.Make ->
// rename, ReopenContainerLog, compress, remove.
//
// Touches: the pod log directory, through os.Root so that no link in it leads out; the runtime's
// ReopenContainerLog.
//
// Invariants:
//   - A reader that follows finds each file's successor by name: names of rotated files only grow,
//     even when the clock goes back, and a compressed file has the name of the plain one and ".gz".
//   - Whatever moment the daemon dies at, nothing that was written is lost: a log that was renamed
//     and not reopened is reopened by the next look; a compressed file appears whole or not at all.
//   - A runtime that hangs on one container holds up one of several places, not the others.
package logs
