// Package apiserver runs upstream's kube-apiserver inside this process.
//
// It does not start the database and does not make keys: both are given.
//
// Part of the flow "serve": New (reads options, builds the configuration, needs
// no database) runs beside etcd.Start; Run begins when both are done.
//
// Touches: the listener it is given, upstream's process-wide feature gates.
//
// Invariants: flags are upstream's own, so that what an operator knows of
// kube-apiserver holds; what he gives in Config.ExtraArgs wins over ours.
package apiserver
