// Command bench measures nodelet beside what a user would run instead, on one
// machine, in one run: upstream's kubelet, kube-proxy, control plane and CoreDNS,
// with the distribution's containerd and CNI plugins. `make bench` runs it.
//
// Every turn of every contestant has a fresh node: network, mount, process and
// host name namespaces, directories and cgroups of its own (test/netlab/lab), and
// a far node beside it. Turns alternate (A B A B), the load of the machine is
// recorded before each. When the program ends, in whatever way, the kernel ends
// everything on the nodes; what is left in the file system the next run removes.
//
// Flow: main.go -> run.go (turns) -> inside.go (in the node) -> area/*.Measure ->
// result.File -> table and JSON.
//
// Touches: labs called nodelet-bench, bench/.cache, the files it is told to write.
package main
