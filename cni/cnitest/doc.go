// Package cnitest builds small networks out of namespaces for tests: hosts on
// one wire, some of them nodes with pods attached by the real nodelet-cni
// through libcni, and real packets between all of them.
//
// It does not run the daemon and is not part of any program.
//
// Touches: network namespaces of its own; everything goes when the test ends.
package cnitest
