// Package stack starts the parts of a cluster on the node of a turn: nodelet's
// control plane or upstream's separate processes, the distribution's containerd
// with its bridge plugin, upstream's kubelet or nodelet's agent. It measures
// nothing but what a process uses.
//
// Flow: an area -> New -> ControlPlane or Upstream -> Containerd -> Kubelet or Nodelet -> API.
//
// Touches: processes, /var/lib/nodelet, /etc/cni, cgroups and sysctls of the turn's node.
package stack
