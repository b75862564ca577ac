// Package daemonset tests deploy/daemonset.yaml beside a node that is not ours: upstream's kubelet, the
// distribution's containerd and bridge CNI plugin, against nodelet-controlplane. It has no code, only a test,
// which needs programs that `make e2e-daemonset` builds or installs.
package daemonset
