// Package zone compiles Services and EndpointSlices into the cluster's DNS
// zone and answers from it, by the Kubernetes DNS specification 1.1 and, where
// that leaves room, as CoreDNS' kubernetes plugin answers. It does not speak to
// the network and does not resolve names outside the cluster domain. Part of
// the flow "DNS query -> answer": dns/cluster.go loads a *Zone and asks it.
//
// Pure.
//
// Invariants:
//   - A Zone never changes; Advance makes a new one that shares what is the same.
//   - A Zone is as large as one that was built at once: what changed leaves no
//     room behind (index). Of the tables it keeps no object by itself: it knows
//     the slices of a Service by name, and finds them in the tables it was made of.
//   - Advance over any history gives the same answers as Build from scratch.
//   - The answers to the common questions (addresses, CNAME and SRV of Services,
//     addresses of endpoints) are packed when they are compiled: a lookup copies
//     bytes, never scans, never allocates.
//   - A zone made of tables that are not synced says so and never answers NXDOMAIN.
//
// Where it differs from CoreDNS with "pods insecure" and "fallthrough":
//   - TXT at a name that exists without data ("svc.<domain>", "<ns>.svc.<domain>")
//     is NODATA as for every other type; CoreDNS answers NXDOMAIN.
//   - dns-version.<domain> exists for every type: NODATA instead of NXDOMAIN.
//   - The labels of an SRV name need their underscore, and an empty label after
//     it matches nothing; CoreDNS takes "http.tcp" too, and "_._tcp" as wildcard.
//   - Where the API does not let us list namespaces, one is known by its
//     Services, and insecure pod records are answered in any namespace.
//   - The label of a verified pod record is compared as an address, not as text.
//   - Names below a pod record do not exist; CoreDNS ignores the extra labels.
//   - The label of an endpoint is that of its address, not of the address's text.
//   - Endpoints of a Service that does not exist, or is an ExternalName, have no PTR.
//   - Additional records that do not fit a reply are left out without TC.
//   - The reply for an ExternalName outside has the code of its target, NXDOMAIN
//     or SERVFAIL included; CoreDNS answers NOERROR. (Package dns does this.)
//   - The NS record is ns.dns.<domain>, the addresses the server listens on;
//     CoreDNS names the Service whose endpoint it is.
package zone
