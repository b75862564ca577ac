// Package file keeps the state of cni/ipam in a directory, shared by the
// daemon and by any number of nodelet-cni processes at once.
//
// It does not decide anything about addresses: cni/ipam does.
//
// Flow: cni/plugin and cni -> Dir.Update(function of cni/ipam) -> file.
//
// Touches: the files "attachments" and "lock" in its directory.
//
// Invariants:
//   - A process killed at any moment leaves the old state or the new one: a
//     change is appended, and counts only with its last newline; now and then
//     the file is replaced by rename.
//   - Writers take turns through flock; the kernel frees the lock of a killed one.
//   - Nothing is fsynced, on purpose. The state means something only within one
//     boot, and within one boot the page cache does not forget. After a crash
//     of the machine the boot id differs, or the file is torn: both mean that
//     no attachment has survived, and the state starts empty.
//   - A file that is missing or unreadable within the same boot is rebuilt from
//     the kernel (Seed), so that no address in use is given out again.
package file
