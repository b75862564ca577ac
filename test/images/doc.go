// Command images builds the container images that tests and the demo use, as OCI archives, without
// Docker and without a registry.
//
//	go run ./test/images [-out bin/images] [-arch amd64] [names...]
//
// It does not import them: `nodelet images import FILE` does.
//
// Flow: catalog.go (what is in an image) -> image.go (files -> layer -> image) -> archive.go (tar).
//
// Touches: the output directory; runs the go command; reads busybox from the host.
//
// Invariants: the same sources, Go version and busybox give the same bytes: times are fixed, files
// are sorted, layers are not compressed (compressors change with their versions).
package main
