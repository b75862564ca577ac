// Package agent turns the pods assigned to this node into running containers,
// and reports their status: what the kubelet does. It does not decide what to do
// (agent/podplan does), nor pull images, mount volumes or probe containers: the
// packages below it do, each with its own loop over the store. Part of the flow
// Pod -> containers -> status.
//
// Reading order: agent.go, pods.go (facts -> plan), execute.go (plan -> calls),
// observe.go (runtime -> store), report.go (status -> API).
//
// Touches: the container runtime, the API's pod status and pod deletion, files
// below the kubelet root directory and the log directories.
//
// Invariants:
//   - Every decision is made from one snapshot. After a call to the runtime the
//     pod is observed before anything else is decided about it.
//   - Doers do not report: the Runtime table is written by the observer only.
//   - What the runtime says counts in the end; what is known of a container's end before
//     (exits.go) only fills the time until then.
//   - What this process remembers (notes.go) may be lost at any time without harm.
//   - A call that hangs holds up its own pod only; stopping a container never
//     holds up anything, so that a grace period can be shortened.
package agent
