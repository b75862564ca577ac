package nlwatch_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/internal/netns"
	"nodelet/internal/nlwatch"
)

// TestOverrunIsTold: whoever reads more slowly than the kernel notifies hears
// that messages were lost, and goes on hearing.
func TestOverrunIsTold(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ns.Close() }()
	nft := func(script string) {
		t.Helper()
		err := ns.Do(func() error {
			out, err := exec.Command("nft", script).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	heard, goOn := make(chan bool, 1000), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		source := nlwatch.Source{Protocol: unix.NETLINK_NETFILTER, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1), NetNS: ns.Fd(), Buffer: 1}
		done <- nlwatch.Watch(ctx, source, func(messages []byte) {
			heard <- messages == nil
			<-goOn
		})
	}()
	next := func(what string) (lost bool) {
		t.Helper()
		select {
		case lost = <-heard:
		case err := <-done:
			t.Fatalf("%s: the watch has ended: %v", what, err)
		case <-time.After(time.Minute):
			t.Fatalf("%s: nothing is heard", what)
		}
		return lost
	}
	// Until the socket is there nothing is heard, so the first one is asked for again.
	for i := 0; len(heard) == 0; i++ {
		nft(fmt.Sprintf("add table ip first%d", i))
	}
	next("the first change")
	for range 20 { // while the reader is at work
		nft("add table ip x; add set ip x s { type inet_service; }; add element ip x s { " + strings.Repeat("1, ", 500) + "2 }; delete table ip x")
	}
	close(goOn)
	for !next("after the flood") {
	}
	nft("add table ip last")
	next("after the loss")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
