// Package volume makes the volumes of this node's pods present on disk, keeps
// their files up to date, and removes them after the pod. It does not decide
// what a volume should look like (agent/volume/volumeplan does) and does not
// mount anything into containers (the runtime does). Part of the flow
// Pods + Configs + Runtime -> volumeplan.Make -> Volumes.Run -> store.Volumes -> podplan.
//
// Touches: the directory pods/ below the kubelet root directory, the mount
// table, hostPath volumes of the types that are created, the API's TokenRequest and
// PodCertificateRequest.
//
// Invariants:
//   - What is present is asked of the disk and the kernel each time, so a crash
//     at any moment is just another start.
//   - Nothing is removed while a container of the pod runs, nor behind a mount,
//     nor before Pods and Runtime are synced. What a hostPath names is never removed.
//   - A pod has a row in store.Volumes as long as it may have anything on disk.
//   - Content is kept up to date for as long as a container may read it, also in a pod that is to go.
//   - Content that could not be brought up to date stays as it was.
//   - One volume that hangs delays its own pod only.
package volume
