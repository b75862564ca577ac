package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"nodelet/dns"
	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/netns/nstest"
	"nodelet/internal/nl"
	"nodelet/internal/store"
	"nodelet/proxy"
)

const (
	routedServer = "10.96.0.10:53"
	routedRounds = 60
)

// TestAnswersAreRouted: proxy and DNS with its answers in the kernel, on one
// store. A pod asks for a Service until it is there, and connects at once, one
// try: every connection reaches the endpoint, whether the kernel or a socket
// answered. Services come and go and change their endpoint meanwhile.
func TestAnswersAreRouted(t *testing.T) {
	if !nstest.Again(t) {
		return
	}
	client, servers := routedNode(t)
	st, w := store.New()
	w.Nodes.Replace(map[model.Key]*model.Node{{Name: "n1"}: {Name: "n1", InternalIPs: []netip.Addr{netip.MustParseAddr("10.244.0.1")}}})
	w.Services.Replace(nil)
	w.Slices.Replace(nil)
	log := slog.New(slog.DiscardHandler)
	p, err := proxy.New(t.Context(), proxy.Config{NodeName: "n1", Mode: "nftables", Pause: 20 * time.Millisecond, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")}}, proxy.Deps{Store: st, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	c := dns.DefaultConfig("cluster.local", netip.MustParseAddr("10.96.0.10"))
	c.ResolvConf, c.ResolvedConf, c.XDP, c.RoutedBy, c.Limits.ClientQPS = "/nonexistent", "/nonexistent", true, store.Proxy, 0
	d, err := dns.New(c, dns.Deps{Store: st, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- p.Run(ctx) }()
	go func() { ended <- d.Run(ctx) }()
	defer func() {
		cancel()
		if err := errors.Join(<-ended, <-ended); err != nil {
			t.Error(err)
		}
	}()
	for deadline := time.Now().Add(20 * time.Second); d.Ready() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(d.Ready())
		}
	}
	for i := range routedRounds {
		svc, sl := routedService(i)
		w.Services.Set(svc.Key, svc)
		w.Slices.Set(sl.Key, sl)
		if err := client.Do(func() error { return askAndConnect(svc.Key.Name, servers) }); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
		if i%3 > 0 {
			w.Services.Delete(svc.Key)
			w.Slices.Delete(sl.Key)
		}
	}
	if n := d.Stats().Kernel; n == 0 {
		t.Error("the kernel answered nothing: half of the test is missing")
	} else {
		t.Logf("the kernel answered %d of the questions", n)
	}
	if n := d.Stats().Early; n > 0 {
		t.Errorf("%d zones were used before they were routed", n)
	}
}

// routedNode gives a pod, and the addresses of two that listen on port 80.
func routedNode(t *testing.T) (client *netns.NS, servers []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := netns.WriteSysctl("ipv4/ip_forward", "1")
	must(err)
	c, err := nl.Open()
	must(err)
	t.Cleanup(c.Close)
	must(c.SetUp(1))
	for i := range 3 {
		pod, err := netns.New()
		must(err)
		t.Cleanup(func() { _ = pod.Close() })
		gateway, own := netip.MustParseAddr(fmt.Sprintf("10.244.%d.1", i)), fmt.Sprintf("10.244.%d.2", i)
		index, err := c.AddVeth(nl.Veth{Name: fmt.Sprintf("veth%d", i), PeerNS: pod.Fd(), PeerName: "eth0"})
		must(err)
		must(c.AddAddr(nl.Addr{Prefix: netip.PrefixFrom(gateway, 24), Link: index}))
		must(pod.Do(func() error {
			in, err := nl.Open()
			if err != nil {
				return err
			}
			defer in.Close()
			l, err := in.Link("eth0")
			if err != nil {
				return err
			}
			return errors.Join(in.SetUp(1), in.SetUp(l.Index), in.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix(own + "/24"), Link: l.Index}),
				in.AddRoute(nl.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway}))
		}))
		if i == 0 {
			client = pod
			continue
		}
		must(pod.Do(func() error {
			l, err := net.Listen("tcp", own+":80")
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = l.Close() })
			go answerWithAddress(l)
			return nil
		}))
		servers = append(servers, own)
	}
	return client, servers
}

func answerWithAddress(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(conn.LocalAddr().String())
		_, _ = conn.Write([]byte(host)) // a client that is gone has failed already
		_ = conn.Close()
	}
}

// routedService is the i-th Service, with one of the two servers as its endpoint.
func routedService(i int) (*model.Service, *model.Slice) {
	key := model.Key{Namespace: "default", Name: fmt.Sprintf("svc-%d", i)}
	svc := &model.Service{
		Key: key, ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96, 1, byte(i)})},
		Ports: []model.ServicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
	}
	sl := &model.Slice{
		Key: key, Service: key, Ports: []model.SlicePort{{Name: "http", Protocol: model.TCP, Port: 80}},
		Endpoints: []model.Endpoint{{Addr: netip.AddrFrom4([4]byte{10, 244, byte(1 + i%2), 2}), Ready: true, Serving: true, NodeName: "n1"}},
	}
	return svc, sl
}

// askAndConnect asks until there is an answer, and connects to it at once.
func askAndConnect(name string, servers []string) error {
	conn, err := mdns.Dial("udp", routedServer)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	m := new(mdns.Msg).SetQuestion(name+".default.svc.cluster.local.", mdns.TypeA)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		_ = conn.SetDeadline(time.Now().Add(time.Second)) // fails only when it is closed
		if err := conn.WriteMsg(m); err != nil {
			return err
		}
		r, err := conn.ReadMsg()
		if err != nil || len(r.Answer) == 0 {
			continue
		}
		ip := r.Answer[0].(*mdns.A).A.String()
		to, err := net.DialTimeout("tcp", ip+":80", 500*time.Millisecond)
		if err != nil {
			return fmt.Errorf("%s was answered with %s, which is not routed: %w", name, ip, err)
		}
		defer func() { _ = to.Close() }()
		_ = to.SetDeadline(time.Now().Add(2 * time.Second))
		buf := make([]byte, 100)
		n, err := to.Read(buf)
		if got := string(buf[:n]); err != nil || !strings.Contains(strings.Join(servers, " "), got) {
			return fmt.Errorf("%s leads to %q: %w", name, got, err)
		}
		return nil
	}
	return fmt.Errorf("%s is not answered", name)
}
