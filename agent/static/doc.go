// Package static takes the pods that the node's own manifests describe (files,
// or a URL) and keeps their images in the API. For these pods it is what the
// API server is for others: it has the objects, takes their status and their
// deletion, so that the rest of the agent knows no difference. It starts no
// containers (agent does) and does not read manifests by itself (manifest,
// pure) nor decide which pods come and go (staticplan, pure). Part of the flow
// manifest file -> Pods -> containers -> status -> mirror pod.
//
// Touches: the manifest directory (read only), inotify, its record below the
// data directory, the store's static rows of table Pods, and mirror pods in the API.
//
// Invariants:
//   - No API server is needed for anything but mirror pods.
//   - A manifest that cannot be read changes nothing, and holds up no other.
//   - Two pods of one name are never there at the same time: the new one waits
//     until the old one is gone.
//   - The record names every pod that was taken, so that one whose manifest went
//     while the daemon was down still ends in order.
package static
