// Package volumeplan decides what the volumes of one pod should look like on
// this node: directories, tmpfs mounts, files with mode and owner, tokens to
// ask for. It does not touch a file system (agent/volume does). Part of the
// flow Pods + Configs -> Make -> agent/volume -> store.Volumes.
//
// Pure.
//
// Invariants: the same facts give the same Plan, which prints as text without
// the content of any file; every path in a Plan is either the hostPath a user
// wrote or lies below the pod's own directory; a volume that cannot be made
// carries a Problem that names it.
package volumeplan
