// Package mount is the door to mounts and to removing what lies below them: it
// makes tmpfs and bind mounts, says what is mounted where, and removes trees
// without ever leaving their file system. It does not know pods or volumes.
// Part of the flow agent/volume -> mount -> kernel.
//
// Touches: the mount table of this process's mount namespace, and the files it is told to.
//
// Invariants: no call follows a symbolic link that a container could have
// made; RemoveTree never removes anything behind a mount; what is mounted is
// asked of the kernel, never remembered.
//
// Kernel: openat2 (5.6) and STATX_ATTR_MOUNT_ROOT (5.8).
package mount
