// Package pki makes and keeps the keys and certificates of a cluster: its two
// authorities, the service-account key and the leaf certificates signed by them.
//
// It does not write kubeconfigs (package identity) and does not decide who may
// do what: that is RBAC.
//
// Part of the flow "serve": pki.Ensure -> identity.Ensure* -> apiserver.Config.
//
// Touches: the files under Config.Dir.
//
// Invariants: an authority and the service-account key are made once and never
// replaced, since everything ever handed out depends on them; leaf certificates
// are replaced when they no longer fit (names, addresses, authority, time).
// Keys are ECDSA P-256 in files of mode 0600, the folder has 0700. A kill at
// any moment leaves a folder that the next Ensure completes.
package pki
