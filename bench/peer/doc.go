// Package peer builds the programs that nodelet is measured against from their
// published modules, once, into bench/.cache. It does not run them.
//
// kubernetes/go.mod pins upstream's components and etcd, ../go.mod CoreDNS.
//
// Touches: bench/.cache.
package peer
