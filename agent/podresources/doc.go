// Package podresources tells programs of the node which devices and CPUs
// containers have to themselves, and which devices of ResourceClaims they use:
// the PodResources API v1, as monitoring agents of device vendors ask for. It
// hands out nothing (agent/exclusive and agent/dra do).
// Flow: tables Grants and Prepared -> Server -> unix socket.
//
// Touches: a unix socket, for root only.
package podresources
