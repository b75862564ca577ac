// Package approve approves the requests of nodes for serving certificates,
// which upstream's controllers leave to people: a node gets one for its own
// name and for addresses that it has and no other node claims. Everything else
// stays pending, for a person to decide.
//
// It does not sign (upstream's controller does, once a request is approved) and
// has nothing to do with client certificates (upstream approves those by RBAC).
//
// Part of the flow "join": node asks -> Judge -> signed -> the node's kubelet
// API is trusted by the API server.
//
// Touches: CertificateSigningRequests and Nodes of the API.
package approve
