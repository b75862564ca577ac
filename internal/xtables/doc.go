// Package xtables is the door to iptables, in both its variants (legacy and
// nf_tables): what a program needs that must live beside other programs'
// iptables rules (Tables), and what it takes to read and write thousands of them
// at once (Bulk).
//
// It decides nothing and keeps nothing.
//
// Flow: cni/firewall.go, proxy/iptables -> xtables -> iptables programs.
//
// Touches: the chains named by the caller, by executing the iptables programs;
// they take their own lock (/run/xtables.lock).
//
// Invariants: every write is idempotent; reading never creates a table (merely
// listing one makes the kernel load the legacy module for it).
package xtables
