// Command perf measures nodelet as it is built in bin/: how long it takes to start, how long a pod
// takes from its API write to Ready, and what daemon and control plane use while idle. `make bench`
// runs it. It prints a table of figures, goals and whether they are met, and writes every single
// measurement with the facts of the machine as JSON, so that two runs can be compared later.
//
// It is no test: figures depend on the machine and on what else runs there (the load before each run
// is recorded). Everything happens in a network and mount namespace of its own, with directories and
// cgroups of its own, beside whatever runs on the machine; nothing is left behind. Needs root.
//
// Touches: processes, namespaces, a temporary directory; the API of the cluster it starts.
package main
