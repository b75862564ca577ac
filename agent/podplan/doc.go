// Package podplan says what must be done next for one pod, and what is true of
// it: from the facts of one snapshot to an ordered list of actions and a status.
// It carries nothing out (agent/execute.go does), observes nothing
// (agent/observe.go does) and writes no status (agent/report.go does). Part of
// the flow Pod -> containers -> status.
//
// Pure.
//
// Invariants:
//   - Make depends on its arguments only; the same facts give the same plan.
//   - Each action of a plan may be carried out at once: what must wait for
//     another action's effect is not planned before that effect is observed.
//     So a plan cut short at any point is continued by planning again.
//   - Before the runtime was read once there is no plan and no status; before
//     the pods were listed once no container is an orphan.
//   - Phases never go backwards, and a terminal phase is not reported while a
//     container runs.
//   - What has to outlive the daemon stands on the containers as annotations.
//     Notes may be lost at any time: that costs time, never correctness.
package podplan
