// Package exclusive hands out what containers have to themselves: devices of
// device plugins, and CPUs under the static policy. It does not decide which
// ones (deviceplan and cpuplan do), nor puts them into containers
// (agent/podplan does, from table Grants).
//
// Flow: plugin -> register.go -> plugin.go (devices and their health) ; pod ->
// grant.go -> deviceplan, cpuplan -> plugin -> table Grants -> agent/podplan.
//
// Touches: the directory device-plugins below the kubelet root, plugins over
// their unix sockets, the CPU sets of running containers through the runtime.
//
// Invariants:
//   - A pod keeps what it was given until nothing of it runs, also over restarts
//     of the daemon and of plugins: grants are kept in a file before they are told.
//   - A plugin that hangs or lies delays only pods that ask for its devices.
//   - After a restart of the daemon, plugins are taken up again where they were;
//     until that has worked or the grace is over, their devices count as before.
package exclusive
