// Command csimock is upstream's mock of a CSI driver, which its suite has as a
// package and runs itself for some specs, as a program for the others: those
// start it in a pod, from the image of hostpathplugin.
//
// Touches: the socket --endpoint, and directories of volumes where the node
// wants them.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/klog/v2"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/driver"
	"k8s.io/kubernetes/test/e2e/storage/drivers/csi-test/mock/service"
)

func main() {
	var c service.Config
	endpoint := flag.String("endpoint", "/csi/csi.sock", "path of the socket")
	attach := flag.Bool("enable-attach", false, "volumes are attached")
	flag.StringVar(&c.DriverName, "drivername", "", "name of the driver")
	flag.Int64Var(&c.AttachLimit, "attach-limit", 0, "volumes that a node can have")
	flag.BoolVar(&c.EnableTopology, "enable-topology", false, "the node has a topology")
	flag.BoolVar(&c.NodeExpansionRequired, "node-expand-required", false, "volumes are expanded on the node")
	for _, unused := range []string{"nodeid", "statedir"} {
		flag.String(unused, "", "not used")
	}
	klog.InitFlags(nil) // -v=5 has it log the calls, which the suite reads
	flag.Parse()
	c.DisableAttach, c.IO = !*attach, service.OSDirIO{}
	if err := run(*endpoint, c); err != nil {
		fmt.Fprintln(os.Stderr, "csimock:", err)
		os.Exit(1)
	}
}

func run(endpoint string, c service.Config) error {
	if err := os.Remove(endpoint); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove socket of an earlier process: %w", err)
	}
	listener, err := net.Listen("unix", endpoint)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s := service.New(c)
	d := driver.NewCSIDriver(&driver.CSIDriverServers{Controller: s, Identity: s, Node: s})
	if err := d.Start(listener, nil); err != nil {
		return fmt.Errorf("start driver: %w", err)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	d.Stop()
	return nil
}
