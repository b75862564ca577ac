// Package nft is the one door to nf_tables: tables, chains, rules, sets and
// maps as values, written in one atomic transaction and read back from the
// kernel. It knows nothing of Services, pods or DNS. Part of every flow that
// ends in packet rules: proxy, cni and dns.
//
// Touches: netlink (NETLINK_NETFILTER) in one network namespace.
//
// What it is made of, in the order of a call: a Ruleset or a Tx (values) is
// encoded by stmt.go and wire.go, sent by conn.go as one batch, and read back by
// read.go. Expressions are encoded by github.com/google/nftables/expr. The
// transaction and the read-back are our own because that library cannot say
// which message of a batch was refused, loses verdicts when reading maps, and
// allocates about twenty times for each element.
//
// Invariants:
//   - All of a Tx becomes visible to packets at one instant, or nothing does. A
//     table with many elements that no packet meets yet is filled in several
//     transactions, the last of which makes its base chains.
//   - Nothing outside the tables named by the caller is ever changed.
//   - Every rule written carries a digest of its own encoding in its user data.
//     A restarted daemon compares digests; a rule that anybody else wrote or
//     replaced has none or another one.
//   - An error names the object it is about.
package nft
