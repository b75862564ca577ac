// Package allinone is `nodelet up`: the bundled control plane as a supervised
// child and the node daemon, with its progress reported step by step. It knows
// nothing of pods and services; the node daemon (package node) does.
//
// Touches: processes, pid files, the data and run directories.
package allinone
