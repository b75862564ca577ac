// Command nodelet-cni is nodelet's CNI plugin. Container runtimes execute it
// for every pod sandbox; package cni/plugin says what it does.
package main

import (
	"context"
	"os"

	"nodelet/cni/plugin"
)

// version is set by the linker.
var version = "dev"

func main() {
	if err := plugin.Run(context.Background(), version); err != nil {
		os.Exit(1)
	}
}
