// Package podresources tells programs of the node which devices and CPUs
// containers have to themselves: the PodResources API v1, as monitoring agents
// of device vendors ask for. It hands out nothing (agent/exclusive does).
// Flow: table Grants -> Server -> unix socket.
//
// Touches: a unix socket, for root only.
package podresources
