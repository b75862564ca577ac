// Package corefile reads the part of CoreDNS's configuration language that
// clusters use: the plugins errors, health, ready, kubernetes, forward, cache,
// loop, reload, loadbalance, prometheus, hosts, rewrite and template. It does
// not serve anything. What it does not know it refuses, with the line: half an
// understood configuration answers wrongly, and nobody sees why.
//
// Part of no flow: dns/program.go compiles a Config into what queries walk through.
//
// Pure.
//
// Invariants:
//   - Parse gives either a Config that is complete or an error that names the line.
//   - Names are in lower case without the final dot; the root is "".
package corefile
