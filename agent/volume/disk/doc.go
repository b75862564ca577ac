// Package disk puts the file system of a block device where a pod can use it,
// and makes one on a device that has none. It does not decide which device a
// pod may have. Part of the flow volumeplan.Make -> Volumes.Run -> disk.
//
// Touches: the device, the mount table, /proc/self/mountinfo; runs blkid, fsck
// and mkfs of the distribution, with the device's path as their only argument
// from outside.
//
// Invariants:
//   - A device with anything on it, if only a table of partitions, is never formatted.
//   - Nothing is checked or formatted that is mounted.
//   - The programs end with the daemon: the next start begins anew.
package disk
