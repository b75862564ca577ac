// Package e2e runs the whole product as a user would: the real binaries, the
// real containerd, the real kernel, in a network and mount namespace of its
// own, so that it neither sees nor disturbs a cluster that runs on the same
// machine. Needs root and what `make build images` makes.
package e2e
