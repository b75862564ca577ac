// Package identity hands out the means to use the cluster: kubeconfigs for
// people and for the control plane's own parts, the files a node needs, and
// tokens that nodes join with.
//
// It does not keep the authorities (package pki).
//
// Part of the flow "serve": pki.Ensure -> identity.Admin, identity.Node -> the
// node daemon reads the node's files while the API server still starts.
//
// Touches: the files it is told to write; Secrets of the API (tokens).
//
// Invariants: what fits is kept, so that a restart changes no file;
// node.kubeconfig is written last of a node's files, so whoever sees it has all
// of them.
package identity
