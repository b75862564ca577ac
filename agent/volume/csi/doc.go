// Package csi makes and removes volumes by the CSI drivers of this node, and
// tells the cluster which drivers these are. It does not decide which volumes
// a pod has (agent/volume/volumeplan does) and finds no drivers (agent/pluginreg
// does). Part of the flows volumeplan.Volume -> Volumes.Make -> driver, the last
// pod of a volume -> Volumes.Remove -> Volumes.Run -> driver, and pluginreg ->
// Volumes.Register -> CSINode, Node labels; CSIDriver objects lead to CSINode again.
//
// Touches: drivers over their unix sockets; below the kubelet root
// pods/<uid>/volumes/kubernetes.io~csi and plugins/kubernetes.io/csi; the API's
// CSINode, Node (labels, volumesInUse), VolumeAttachment, Secret, TokenRequest,
// status of claims.
//
// Invariants:
//   - Before a driver is asked to do anything for a pod, a record of it lies in
//     the pod's directory, and it goes last: a daemon that is killed at any
//     moment finds there what it has to take down.
//   - One call at a time for each volume; different volumes never wait for one another.
//   - A volume is staged before it is published, and unstaged after the last
//     pod that has a record of it: by itself, so that no pod stays because that
//     fails. Until then it counts as in use on this node.
//   - An attempt to unstage makes a volume count as not staged for the next pod,
//     and as staged for the next attempt.
//   - Nothing is removed while anything is mounted on it.
package csi
