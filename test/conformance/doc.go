// Command conformance runs upstream's own end-to-end suite against a throw-away
// nodelet cluster, or any other: it builds e2e.test and its helpers from the
// control plane's module, makes the images that the suite wants, brings up a
// lab, runs the chosen specs and says what failed and why.
//
// It does not judge: a spec passes or fails as upstream wrote it.
//
// main.go (what is wanted) -> build.go (programs) -> rootfs.go, images.go (one
// archive of all images) -> cluster.go (lab or given kubeconfig) -> suite.go
// (ginkgo) -> report.go (junit -> table).
//
// Touches: the cache folder, the lab (namespaces of its own), apt's downloads.
package main
