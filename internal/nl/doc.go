// Package nl is the one door to rtnetlink: links, addresses, routes,
// neighbours and rules of one network namespace, in netip types.
//
// It decides nothing and keeps nothing. It does not speak nftables, IPVS or
// conntrack; those have doors of their own.
//
// Flow: features and nodelet-cni -> nl.Conn -> kernel.
//
// Touches: rtnetlink of the namespace the Conn was opened in.
//
// Invariants: every write is idempotent (adding what is there and deleting
// what is gone is no error) unless its comment says otherwise; every error
// names the object and, where there is one, the way out; a missing object
// wraps ErrNotFound.
package nl
