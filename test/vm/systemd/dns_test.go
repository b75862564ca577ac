package systemd

import (
	"encoding/json"
	"errors"
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

const (
	// dnsRestarts is how often the daemon is restarted. An emulated machine takes seconds for each.
	dnsRestarts = 100
	// dnsPause is between two questions of one client, dnsClients how many there are: as much as an
	// emulated machine answers beside the start of a daemon.
	dnsPause   = 40 * time.Millisecond
	dnsClients = 4
	// dnsTold is one of how many questions may be told of a failure (SERVFAIL): a daemon that has no zone
	// three seconds after it took the sockets says so, and on an emulated machine of a busy host one in 500 did.
	dnsTold = 100
)

// TestDNSRestart runs the delivered unit with nothing but DNS, asks for a name all the time, each question
// once, and restarts the daemon: systemd keeps its sockets (FileDescriptorStoreMax), so no question is
// lost.
func TestDNSRestart(t *testing.T) {
	if line, _ := os.ReadFile("/proc/cmdline"); !strings.Contains(string(line), "nodelet.vm") {
		t.Skip("needs a machine of its own with systemd: make test-vm RUN=systemd")
	}
	serveAPI(t)
	write(t, "/etc/default/nodelet", "NODELET_FLAGS=\"--components=dns --kubeconfig=/run/dns.kubeconfig --node-ip=192.0.2.77 --hostname-override=vm --dns-corefile=\"\n")
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(run(t, "journalctl", "--no-pager", "-n", "60", "-u", "nodelet"))
		}
		run(t, "systemctl", "stop", "nodelet")
		nodelet(t, "reset --yes")
		_ = os.Remove("/etc/default/nodelet") // the next test fails if it is left
	})
	run(t, "systemctl", "start", "nodelet") // returns when the daemon said READY=1
	eventually(t, "an answer", answered)
	kept := properties(t, "NFileDescriptorStore")["NFileDescriptorStore"]
	if kept == "0" || kept == "" {
		t.Fatalf("systemd keeps %q descriptors", kept)
	}
	l := newLoad(t)
	began, pids := time.Now(), map[string]bool{properties(t, "MainPID")["MainPID"]: true}
	for range dnsRestarts {
		run(t, "systemctl", "restart", "nodelet")
		pids[properties(t, "MainPID")["MainPID"]] = true
	}
	l.end()
	t.Logf("%d restarts in %s: %s", dnsRestarts, time.Since(began).Round(time.Second), l)
	if len(pids) < dnsRestarts { // a number may come again
		t.Errorf("%d processes over %d restarts", len(pids), dnsRestarts)
	}
	asked, good, told := l.asked.Load(), l.good.Load(), l.told.Load()
	if asked != good+told || good < dnsRestarts*dnsClients || told*dnsTold > asked {
		t.Errorf("questions were lost, or too many failed: %s", l)
	}
	if now := properties(t, "NFileDescriptorStore")["NFileDescriptorStore"]; now != kept {
		t.Errorf("systemd kept %s descriptors at first, and %s in the end", kept, now)
	}
}

// load are clients that ask all the time.
type load struct {
	asked, good, told atomic.Int64
	stop              chan struct{}
	running           sync.WaitGroup
}

func newLoad(t *testing.T) *load {
	l := &load{stop: make(chan struct{})}
	for range dnsClients {
		l.running.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				case <-time.After(dnsPause):
				}
				l.asked.Add(1)
				switch err := answered(); {
				case errors.Is(err, errFailure):
					l.told.Add(1)
				case err != nil:
					t.Errorf("question %d: %v", l.asked.Load(), err)
				default:
					l.good.Add(1)
				}
			}
		})
	}
	return l
}

func (l *load) end() { close(l.stop); l.running.Wait() }

// String is one line.
func (l *load) String() string {
	return fmt.Sprintf("%d questions, %d answered, %d told of a failure", l.asked.Load(), l.good.Load(), l.told.Load())
}

var errFailure = errors.New("SERVFAIL")

// answered asks once, from a socket of its own, and waits for the answer.
func answered() error {
	conn, err := net.Dial("udp", "10.96.0.10:53")
	if err != nil {
		return err
	}
	defer conn.Close()
	packet, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		return err
	}
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute)) // fails only when it is closed
	buf := make([]byte, 1500)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	var m dns.Msg
	if err := m.Unpack(buf[:n]); err != nil {
		return err
	}
	if m.Rcode == dns.RcodeServerFailure {
		return errFailure
	}
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		return fmt.Errorf("answered with\n%s", &m)
	}
	return nil
}

// serveAPI is an API server with one Service, in which nothing ever changes.
func serveAPI(t *testing.T) {
	t.Helper()
	lists := map[string]string{
		"/api/v1/services": "ServiceList", "/apis/discovery.k8s.io/v1/endpointslices": "EndpointSliceList",
		"/api/v1/namespaces": "NamespaceList", "/api/v1/nodes": "NodeList",
	}
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
	write(t, "/run/dns.kubeconfig", fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \"http://%s\"}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n", l.Addr()))
}
