// Package etcd runs the cluster's database inside this process: one member,
// reached through a unix socket by the API server only.
//
// It does not take backups and does not join other members: an external etcd is
// given to the API server directly.
//
// Part of the flow "serve": etcd.Start -> apiserver.
//
// Touches: the files under Config.Dir, the socket Config.Socket.
//
// Invariants: what was acknowledged is on disk (fsync is never turned off); the
// member ends only after everything that talks to it; damage ends in an error
// from Start or on Failed, never in a hanging process.
package etcd
