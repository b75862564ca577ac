// Package link brings a linkplan.Plan into the kernel, checks that it is
// there, and removes it.
//
// It decides nothing: names, addresses and routes are in the plan.
//
// Flow: cni/plugin -> link.Apply -> internal/nl -> kernel; cni (the daemon)
// -> link.Repair for what others have removed on the host's side.
//
// Touches: links, addresses, routes, neighbours, qdiscs and sysctls of the calling
// thread's namespace and of the pod's.
//
// Invariants: Apply may be repeated after any partial Apply; when it returns
// an error nothing of the attachment is left; only links of linkplan.Group are
// ever removed.
package link
