// Command nodelet-cni is nodelet's CNI plugin. Container runtimes execute it
// for every pod sandbox; package cni/plugin says what it does.
package main

import (
	"context"
	"os"

	"nodelet/cni/plugin"
	"nodelet/internal/version"
)

func main() {
	if err := plugin.Run(context.Background(), version.Version); err != nil {
		os.Exit(1)
	}
}
