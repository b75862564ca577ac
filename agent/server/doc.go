// Package server is the kubelet API of this node: what the API server, metrics collectors and
// probes of the daemon ask over HTTPS. It changes nothing; what pods and containers there are it
// knows from the store's snapshot, never from the API server.
//
// Flow: client -> Server.ServeHTTP -> parse (one normalised request) -> authenticate -> authorize
// -> one handler -> cri, crilog, agent/stats.
//
// Touches: two listening sockets, the certificate files, log files (through crilog), what agent/stats
// measures, the container runtime and its streaming server, TokenReview and
// SubjectAccessReview at the API server.
//
// Invariants:
//   - There is one function that turns a request into what is asked (parse), one that says who asks
//     (authenticate) and one that says whether that is allowed (authorize). A handler is reached
//     through all three or not at all; a path that parse does not know exactly is an error.
//   - Whatever gives a way into a container (exec, attach, port-forward, run) needs the verb
//     "create", whichever HTTP method carries it.
//   - Every input has a bound: header, URL, body, connections, streams in all and per pod, answers
//     of the API server that are remembered. Time limits end requests, not streams.
//   - The client's credentials end here: neither the runtime nor a container sees them.
package server
