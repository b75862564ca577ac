package proxy

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

// checks answers the health check node ports of Services with external traffic
// policy Local: load balancers ask there which nodes have endpoints.
type checks struct {
	// answers tells whether to listen on an address of this node.
	answers func(netip.Addr) bool
	// healthy tells whether the kernel is programmed.
	healthy func() bool

	mu   sync.Mutex
	open map[model.Key]*check
	done sync.WaitGroup
}

// check is one port that is listened on.
type check struct {
	server *http.Server
	port   uint16
	local  int
}

// apply makes the ports in use those of state, and tells which Services' could
// not be opened; they are tried again next time.
func (c *checks) apply(state *lb.State) map[model.Key]error {
	want := map[model.Key]lb.HealthCheck{}
	for k, w := range state.HealthChecks() {
		want[k] = w
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, o := range c.open {
		if w, ok := want[k]; !ok || w.Port != o.port {
			_ = o.server.Close()
			delete(c.open, k)
		}
	}
	failed := map[model.Key]error{}
	for k, w := range want {
		if o := c.open[k]; o != nil {
			o.local = w.Local
			continue
		}
		o, err := c.listen(k, w)
		if err != nil {
			failed[k] = fmt.Errorf("listen on spec.healthCheckNodePort %d: %w", w.Port, err)
			continue
		}
		if c.open == nil {
			c.open = map[model.Key]*check{}
		}
		c.open[k] = o
	}
	return failed
}

func (c *checks) listen(k model.Key, w lb.HealthCheck) (*check, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(int(w.Port))))
	if err != nil {
		return nil, err
	}
	o := &check{port: w.Port, local: w.Local, server: &http.Server{
		Handler:           http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { c.answer(rw, k) }),
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10,
	}}
	c.done.Go(func() { _ = o.server.Serve(only{l, c.answers}) }) // ends by Close
	return o, nil
}

// only lets in connections to some of the node's addresses.
type only struct {
	net.Listener
	answers func(netip.Addr) bool
}

// Accept closes connections to other addresses unanswered.
func (o only) Accept() (net.Conn, error) {
	for {
		conn, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		at, err := netip.ParseAddrPort(conn.LocalAddr().String())
		if err == nil && o.answers(at.Addr().Unmap()) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// checkAnswer has the fields of kube-proxy's.
type checkAnswer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int  `json:"localEndpoints"`
	ServiceProxyHealthy bool `json:"serviceProxyHealthy"`
}

func (c *checks) answer(w http.ResponseWriter, k model.Key) {
	a := checkAnswer{ServiceProxyHealthy: c.healthy()}
	a.Service.Namespace, a.Service.Name = k.Namespace, k.Name
	c.mu.Lock()
	if o := c.open[k]; o != nil {
		a.LocalEndpoints = o.local
	}
	c.mu.Unlock()
	w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(a.LocalEndpoints))
	code := http.StatusOK
	if a.LocalEndpoints == 0 || !a.ServiceProxyHealthy {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, a)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// close ends all of them and waits until they are over.
func (c *checks) close() {
	c.mu.Lock()
	for k, o := range c.open {
		_ = o.server.Close()
		delete(c.open, k)
	}
	c.mu.Unlock()
	c.done.Wait()
}
