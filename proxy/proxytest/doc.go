// Package proxytest holds a back end of the proxy to what it has to do to
// packets: Conformance sends real ones between network namespaces and compares
// each outcome with package eval. It is no product code.
//
// Touches: network namespaces of its own, and whatever the back end touches in
// one of them. Everything ends with the test.
//
// The lab: a node with pods on veth pairs (routed, as nodelet-cni does it), an
// outside host on one link and a second node with a pod on another.
//
//	outside 192.168.7.9 ---- 192.168.7.1 node 192.168.8.1 ---- 192.168.8.2 node 2
//	                                  |                              |
//	            pods a, b, c: 10.244.1.2 ... .4              pod r: 10.244.2.2
//
// The same in IPv6 with fd07::/64, fd08::/64, fd44:1::/64 and fd44:2::/64.
package proxytest
