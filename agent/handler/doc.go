// Package handler runs one handler of a probe or of a lifecycle hook against a
// container: exec, httpGet, tcpSocket, grpc, sleep. It does not decide when to
// run one nor what a result means (agent/probe and agent/podplan do). Part of
// the flows Probes -> agent/probe -> handler and podplan.PreStop -> agent/execute.go -> handler.
//
// Touches: the runtime's ExecSync; TCP connections from the host to the pod's address or the host a user named.
//
// Invariants: every run ends with its time-out or its context; what is read
// from the other side is bounded; no connection outlives its run and no proxy
// of the host's environment is used; a redirect to another host is not followed.
//
// gRPC health checks are made with net/http's HTTP/2 and two small messages:
// one call of one method needs no gRPC library.
package handler
