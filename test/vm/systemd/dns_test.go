package systemd

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsRestarts are few because each takes half a minute here; a hundred under
// load are dns : TestHotRestart, with a store of descriptors that is not systemd's.
const dnsRestarts = 3

// dnsRestart asks for a name all the time, each question once, while the
// daemon is restarted: systemd keeps its sockets, so not one is lost.
func dnsRestart(t *testing.T) {
	if n := properties(t, "NFileDescriptorStore")["NFileDescriptorStore"]; n == "0" {
		t.Fatal("systemd keeps no descriptors")
	}
	var asked, answered, failed atomic.Int64
	var waiting sync.WaitGroup
	stop := make(chan struct{})
	var asking sync.WaitGroup
	asking.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			waiting.Go(func() {
				asked.Add(1)
				switch code, err := askOnce(); {
				case err != nil:
					t.Errorf("query %d: %v", asked.Load(), err)
				case code == dns.RcodeSuccess:
					answered.Add(1)
				default:
					failed.Add(1)
				}
			})
		}
	})
	for i := range dnsRestarts {
		before := properties(t, "MainPID")["MainPID"]
		run(t, "systemctl", "restart", "nodelet")
		eventually(t, "another daemon that answers", func() error {
			if now := properties(t, "MainPID")["MainPID"]; now == before {
				return fmt.Errorf("still process %s", now)
			}
			code, err := askOnce()
			if err == nil && code != dns.RcodeSuccess {
				err = fmt.Errorf("code %d", code)
			}
			return err
		})
		t.Logf("restart %d: %d asked, %d answered, %d told of a failure", i+1, asked.Load(), answered.Load(), failed.Load())
	}
	close(stop)
	asking.Wait()
	waiting.Wait()
	t.Logf("%d asked, %d answered, %d told of a failure", asked.Load(), answered.Load(), failed.Load())
	if answered.Load() == 0 || asked.Load() != answered.Load()+failed.Load() {
		t.Errorf("%d asked, %d answered, %d told of a failure", asked.Load(), answered.Load(), failed.Load())
	}
}

// askOnce sends one question and waits for its answer.
func askOnce() (code int, err error) {
	conn, err := net.Dial("udp", "10.96.0.10:53")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	packet, err := new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		return 0, err
	}
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // fails only when it is closed
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return 0, err
	}
	var m dns.Msg
	if err := m.Unpack(buf[:n]); err != nil {
		return 0, err
	}
	return m.Rcode, nil
}
