// Package serve runs the control plane: it decides what starts when, notices
// when a part dies, and stops everything in order.
//
// It does not know the parts' insides: etcd, apiserver, controllers, scheduler
// and addons each have a package.
//
// Part of the flow "serve": config.go (check) -> data.go (lock, version) ->
// listen.go -> start.go: etcd beside keys and apiserver.New -> apiserver.Run ->
// controllers, scheduler and addons beside one another -> ready.
//
// Touches: the data directory's controlplane folder, the kubeconfigs beside it,
// the listening sockets, the runtime's memory settings, the timer slack of the
// process's threads.
//
// Invariants: one process per data directory; the node's files are complete
// before the API answers; the database outlives the API server; a part's end
// ends the process with one line that says which part and why.
package serve
