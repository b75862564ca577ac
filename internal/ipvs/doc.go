// Package ipvs is the door to the kernel's IPVS tables: virtual servers and their real servers, over generic
// netlink, with netip addresses. It decides nothing.
//
// Touches: IPVS of one network namespace.
//
// Invariants:
//   - Opening never loads the kernel's module; Load does.
//   - Real servers are always of the kind that translates addresses (masq).
package ipvs
