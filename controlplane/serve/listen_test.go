package serve

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestListenOnSeveral(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	port := testConfig(t).Port
	l, err := listen(t.Context(), addrs, port)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		target := netip.AddrPortFrom(a, port).String()
		c, err := net.Dial("tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got := s.LocalAddr().String(); got != target {
			t.Errorf("accepted on %s, want %s", got, target)
		}
		c.Close()
		s.Close()
	}
	waiting := make(chan error)
	go func() {
		_, err := l.Accept()
		waiting <- err
	}()
	l.Close()
	l.Close() // upstream does it twice
	if err := <-waiting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}

func TestListenExplains(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	free := netip.MustParseAddr("127.0.0.2")
	_, err = listen(t.Context(), []netip.Addr{free, netip.MustParseAddr("127.0.0.1")}, port)
	want := fmt.Sprintf("in use by serve.test (pid %d)", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q in it", err, want)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(free, port).String())
	if err != nil {
		t.Fatalf("the first address stayed bound: %v", err)
	}
	l.Close()
	_, err = listen(t.Context(), []netip.Addr{netip.MustParseAddr("192.0.2.1")}, port)
	if err == nil || !strings.Contains(err.Error(), "does not have that address") {
		t.Errorf("error %v, want one about the address", err)
	}
}
