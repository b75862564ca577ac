// Package netns opens, creates, binds and deletes Linux network namespaces and
// runs functions inside them.
//
// It does not configure what is inside a namespace: package internal/nl does,
// over a socket it opens there.
//
// Flow: nodelet-cni (ADD) -> netns.Open -> nl.OpenAt; tests and test/netlab
// create namespaces of their own.
//
// Touches: the network namespace of the calling OS thread, bind mounts of
// namespace files.
//
// Invariants: a goroutine that changed its thread's namespace either changed
// it back or takes the thread with it when it ends, so no other goroutine ever
// runs in a foreign namespace by accident.
package netns
