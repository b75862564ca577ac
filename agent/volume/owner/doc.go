// Package owner gives a volume with all that is in it to a group, as a pod's
// fsGroup asks for. It does not decide which volumes (agent/volume/volumeplan
// does). Part of the flow agent/volume -> owner.Apply -> files.
//
// Touches: owner and mode of the files below the directory it is told.
//
// Invariants: no symbolic link is followed and no other file system entered,
// whatever containers do to the volume meanwhile; the root is changed last, so
// that a root that is right means that all is.
package owner
