// Package keep holds values by key in a file, so that they outlive the daemon
// that is killed at any moment, but not the boot: after the machine has
// started anew most of what was kept is not true any more (AnyBoot is for the rest). It knows nothing of
// what the values mean. Flow: a part of the agent -> File.Put -> file; at the
// next start Open -> the part.
//
// Touches: one file, and <file>.tmp beside it while it is written anew.
//
// Invariants:
//   - A change is one line appended by one write(2): SIGKILL loses nothing that
//     Put has returned from, and at most the last line is torn. What is of one
//     boot is not synced to the disk, because a power cut makes it void anyway;
//     what is of AnyBoot is.
//   - A file that is of another boot, damaged or unreadable is an empty one.
//   - The file never grows beyond a few times its values: it is written anew.
package keep
