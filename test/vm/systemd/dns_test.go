package systemd

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsRestarts are few because each takes its time here; a hundred under load
// are dns : TestHotRestart, with a store of descriptors that is not systemd's.
const dnsRestarts = 3

// TestDNSRestart runs the delivered unit with nothing but DNS, asks for a name
// all the time, each question once, and restarts the daemon: systemd keeps its
// sockets, so not one question is lost.
func TestDNSRestart(t *testing.T) {
	if line, _ := os.ReadFile("/proc/cmdline"); !strings.Contains(string(line), "nodelet.vm") {
		t.Skip("needs a machine of its own with systemd: make test-vm RUN=systemd")
	}
	serveAPI(t)
	flags := "NODELET_FLAGS=\"--components=dns --kubeconfig=/run/dns.kubeconfig --node-ip=192.0.2.77 --hostname-override=vm --dns-corefile=\"\n"
	if err := os.WriteFile("/etc/default/nodelet", []byte(flags), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		run(t, "systemctl", "stop", "nodelet")
		nodelet(t, "reset --yes")
		_ = os.Remove("/etc/default/nodelet") // the next test fails if it is left
		if t.Failed() {
			t.Log(run(t, "journalctl", "--no-pager", "-n", "60", "-u", "nodelet"))
		}
	})
	run(t, "systemctl", "start", "nodelet")
	eventually(t, "an answer", answered)
	if n := properties(t, "NFileDescriptorStore")["NFileDescriptorStore"]; n == "0" {
		t.Fatal("systemd keeps no descriptors")
	}
	l := newLoad(t)
	for i := range dnsRestarts {
		before := properties(t, "MainPID")["MainPID"]
		run(t, "systemctl", "restart", "nodelet")
		eventually(t, "another daemon that answers", func() error {
			if now := properties(t, "MainPID")["MainPID"]; now == before {
				return fmt.Errorf("still process %s", now)
			}
			return answered()
		})
		t.Logf("restart %d: %s", i+1, l)
	}
	l.end()
	t.Log(l)
	if asked, good := l.asked.Load(), l.good.Load(); good == 0 || asked != good+l.bad.Load() {
		t.Errorf("answers are missing: %s", l)
	}
}

// load asks all the time.
type load struct {
	asked, good, bad atomic.Int64
	stop             chan struct{}
	running          sync.WaitGroup
}

func newLoad(t *testing.T) *load {
	l := &load{stop: make(chan struct{})}
	l.running.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-tick.C:
			}
			l.asked.Add(1)
			l.running.Go(func() {
				switch code, err := askOnce(); {
				case err != nil:
					t.Errorf("a question was lost: %v", err)
				case code == dns.RcodeSuccess:
					l.good.Add(1)
				default:
					l.bad.Add(1)
				}
			})
		}
	})
	return l
}

func (l *load) end() { close(l.stop); l.running.Wait() }

// String is one line.
func (l *load) String() string {
	return fmt.Sprintf("%d asked, %d answered, %d told of a failure", l.asked.Load(), l.good.Load(), l.bad.Load())
}

func answered() error {
	code, err := askOnce()
	if err == nil && code != dns.RcodeSuccess {
		err = fmt.Errorf("code %d", code)
	}
	return err
}

// askOnce sends one question and waits for its answer.
func askOnce() (code int, err error) {
	conn, err := net.Dial("udp", "10.96.0.10:53")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	packet, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		return 0, err
	}
	if _, err := conn.Write(packet); err != nil {
		return 0, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute)) // fails only when it is closed
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

// serveAPI is an API server with one Service, in which nothing ever changes.
func serveAPI(t *testing.T) {
	t.Helper()
	lists := map[string]string{"/api/v1/services": "ServiceList", "/apis/discovery.k8s.io/v1/endpointslices": "EndpointSliceList", "/api/v1/namespaces": "NamespaceList"}
	service := `{"metadata":{"name":"web","namespace":"default","resourceVersion":"1"},"spec":{"clusterIP":"10.96.0.5","clusterIPs":["10.96.0.5"],"ports":[{"port":80,"protocol":"TCP"}]}}`
	mux := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		kind, known := lists[r.URL.Path]
		switch {
		case !known || r.FormValue("sendInitialEvents") != "":
			w.WriteHeader(http.StatusUnprocessableEntity) // "no such way to watch": the client lists
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Invalid", "code": 422})
		case r.FormValue("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			version, items := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path[:strings.LastIndex(r.URL.Path, "/")], "/apis/"), "/api/"), ""
			if kind == "ServiceList" {
				items = service
			}
			fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"1"},"items":[%s]}`, kind, version, items)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close() })
	text := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"http://%s\"}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n", l.Addr())
	if err := os.WriteFile("/run/dns.kubeconfig", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
