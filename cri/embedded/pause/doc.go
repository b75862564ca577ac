// Package pause holds the program that holds a pod's namespaces open: 520 bytes, one per pod.
//
// It does not build the image around it; test/images does. Why it is C is told in
// docs/adr/0007-pause.md.
//
// Flow: src/pause.c -> src/build.sh -> Program -> test/images -> cri/embedded/pause.tar.
//
// Pure.
package pause

import "embed"

//go:generate sh src/build.sh

//go:embed pause-*
var programs embed.FS

// Program is the static binary for an architecture, as Go names it.
func Program(arch string) ([]byte, error) { return programs.ReadFile("pause-" + arch) }
