// Socketproxy stands in for the one mode of upstream's hostpathplugin that the
// suite's drivers of DRA and CSI need: whoever connects to a unix socket of the pod is
// joined with a connection to a TCP port of the pod, which the suite keeps open
// by port-forward. The driver itself runs in the suite.
//
// Touches: the socket --endpoint and the port --proxy-endpoint.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
)

func main() {
	endpoint := flag.String("endpoint", "", "path of the unix socket")
	port := flag.String("proxy-endpoint", "", "tcp://HOST:PORT")
	flag.String("nodeid", "", "not used")
	flag.String("v", "", "not used")
	flag.Parse()
	if err := run(*endpoint, *port); err != nil {
		fmt.Fprintln(os.Stderr, "socketproxy:", err)
		os.Exit(1)
	}
}

func run(socket, port string) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove socket of an earlier process: %w", err)
	}
	far, err := net.Listen("tcp", strings.TrimPrefix(port, "tcp://"))
	if err != nil {
		return fmt.Errorf("listen for the suite: %w", err)
	}
	near, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listen for the node: %w", err)
	}
	for {
		a, err := near.Accept()
		if err != nil {
			return fmt.Errorf("accept from the node: %w", err)
		}
		b, err := far.Accept()
		if err != nil {
			return fmt.Errorf("accept from the suite: %w", err)
		}
		go join(a, b)
	}
}

// join copies both ways until one end is closed.
func join(a, b net.Conn) {
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // the other end tells its program of errors
			done <- struct{}{}
		}()
	}
	<-done
	a.Close()
	b.Close()
	<-done
}
