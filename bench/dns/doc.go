// Package dns compares nodelet's DNS with CoreDNS on the same API objects: figures
// as an area of the harness, and answers by the test beside it (make differential).
//
// Flow: Area().Turns -> measure -> measureServer: servers.go starts one, world.go
// makes the objects, dnsperf asks.
//
// Touches: everything on the node of the turn; the test a network namespace of its own.
package dns
