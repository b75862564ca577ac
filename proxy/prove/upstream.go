package prove

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"nodelet/internal/model"
	"nodelet/internal/netns"
	"nodelet/internal/nft"
	"nodelet/internal/nft/sim"
	"nodelet/internal/nl"
	"nodelet/internal/stubapi"
	"nodelet/proxy/lb"
)

// KubeProxy is an upstream kube-proxy to compare with.
type KubeProxy struct {
	// Binary is its program file, Mode one of KubeProxyModes.
	Binary, Mode string
}

// ParseKubeProxy reads "kube-proxy=BINARY[,mode=MODE]", as people write it; without a mode it gives one for each.
func ParseKubeProxy(text string) ([]KubeProxy, error) {
	file, mode, given := strings.Cut(text, ",mode=")
	file, ok := strings.CutPrefix(file, "kube-proxy=")
	if !ok || file == "" || strings.Contains(file, ",") {
		return nil, fmt.Errorf("%q: must be kube-proxy=BINARY[,mode=%s]", text, strings.Join(KubeProxyModes(), "|"))
	}
	file, err := exec.LookPath(file)
	if err != nil {
		return nil, fmt.Errorf("find kube-proxy: %w", err)
	}
	var out []KubeProxy
	for _, m := range KubeProxyModes() {
		if !given || m == mode {
			out = append(out, KubeProxy{file, m})
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("mode %q of kube-proxy: known are %s", mode, strings.Join(KubeProxyModes(), ", "))
	}
	return out, nil
}

// KubeProxyModes are the modes of kube-proxy that can be compared with.
func KubeProxyModes() []string { return []string{"iptables", "nftables"} }

// takeUp is how long kube-proxy may take to have a case in the kernel, the first with its start.
const takeUp = 30 * time.Second

// HeldKubeProxy are the rules that a kube-proxy has written into a namespace of its own.
func HeldKubeProxy(k KubeProxy) (Subject, error) {
	h, err := NewHeld("kube-proxy "+k.Mode+" in the kernel", k.open)
	if err != nil {
		return nil, err
	}
	return &knowing{Subject: h, known: Differences(k.Mode), seen: map[string]int{}}, nil
}

// PacketsKubeProxy are real packets through the rules of a kube-proxy.
func PacketsKubeProxy(k KubeProxy) (Subject, error) {
	p, err := NewPackets("kube-proxy "+k.Mode+" with packets", k.open)
	if err != nil {
		return nil, err
	}
	return &knowing{Subject: p, known: Differences(k.Mode), unasked: true, seen: map[string]int{}}, nil
}

// upstream is a kube-proxy that runs, with the API that it watches.
type upstream struct {
	ns    *netns.NS
	fd    int
	rules *nft.Conn
	api   *stubapi.Server
	dir   string
	log   string
	// stop ends the process; ended is closed when it has.
	stop  context.CancelFunc
	ended chan struct{}

	state   *lb.State
	objects []metav1.Object
	cases   int
}

// open starts the kube-proxy in a namespace; its writer puts a state into the API and waits until
// the kernel has it.
func (k KubeProxy) open(fd int) (write Writer, closer func() error, err error) {
	u := &upstream{fd: fd}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start kube-proxy: %w", err), u.close())
		}
	}()
	if u.ns, err = netns.Open(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
		return nil, nil, err
	}
	if u.rules, err = nft.Open(nft.Options{NetNS: fd}); err != nil {
		return nil, nil, err
	}
	if u.dir, err = os.MkdirTemp("", "nodelet-prove-"); err != nil {
		return nil, nil, fmt.Errorf("make directory: %w", err)
	}
	if err := u.serve(); err != nil {
		return nil, nil, err
	}
	if err := u.start(k); err != nil {
		return nil, nil, err
	}
	return u.write, u.close, nil
}

// serve makes the API in the namespace.
func (u *upstream) serve() error {
	c, err := nl.OpenAt(u.fd)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := setUp(c, "lo"); err != nil {
		return err
	}
	return u.ns.Do(func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("listen for the API: %w", err)
		}
		u.api = stubapi.Serve(l)
		return nil
	})
}

// config leaves kube-proxy at its defaults but for what names the node, what is the machine's, the
// addresses of node ports, which differ by mode, and times that would only be waited for.
func (k KubeProxy) config(kubeconfig string) string {
	ranges := make([]string, 0, len(podCIDRs()))
	for _, p := range podCIDRs() {
		ranges = append(ranges, p.String())
	}
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %q, contentType: application/json}
hostnameOverride: n1
mode: %s
clusterCIDR: %s
nodePortAddresses: [0.0.0.0/0, "::/0"]
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
iptables: {minSyncPeriod: 1ms, localhostNodePorts: false}
nftables: {minSyncPeriod: 1ms}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, kubeconfig, k.Mode, strings.Join(ranges, ","))
}

func (u *upstream) start(k KubeProxy) error {
	kubeconfig, config := filepath.Join(u.dir, "kubeconfig"), filepath.Join(u.dir, "config.yaml")
	u.log = filepath.Join(u.dir, "log")
	access := fmt.Sprintf("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: %q}}]\n"+
		"contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\ncurrent-context: c\n", u.api.URL())
	err := errors.Join(os.WriteFile(kubeconfig, []byte(access), 0o600), os.WriteFile(config, []byte(k.config(kubeconfig)), 0o600))
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	log, err := os.Create(u.log)
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, k.Binary, "--config="+config)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE="+filepath.Join(u.dir, "lock"))
	// It ends with the thread that started it, which waits for it: a trial that is killed leaves no process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	u.stop, u.ended = cancel, make(chan struct{})
	started := make(chan error, 1)
	go func() {
		defer close(u.ended)
		defer log.Close()
		err := u.ns.Do(func() error {
			if err := cmd.Start(); err != nil {
				return err
			}
			started <- nil
			_ = cmd.Wait() // why it ended is in its log
			return nil
		})
		started <- err
	}()
	return <-started
}

// close ends the process and the API.
func (u *upstream) close() error {
	var errs []error
	if u.stop != nil {
		u.stop()
		<-u.ended
	}
	if u.api != nil {
		u.api.Close()
	}
	if u.rules != nil {
		errs = append(errs, u.rules.Close())
	}
	if u.ns != nil {
		errs = append(errs, u.ns.Close())
	}
	if u.dir != "" {
		errs = append(errs, os.RemoveAll(u.dir))
	}
	return errors.Join(errs...)
}

// write puts the objects of a state into the API, and then the sentinel, and waits until packets to
// that go where they should.
func (u *upstream) write(ctx context.Context, s *lb.State) error {
	if s == u.state {
		return nil
	}
	now := objectsOf(s)
	for _, o := range missing(u.objects, now) {
		if err := u.api.Delete(o); err != nil {
			return err
		}
	}
	u.cases++
	for _, o := range append(now, sentinelObjects(u.cases)...) {
		if err := u.api.Put(o); err != nil {
			return err
		}
	}
	u.state, u.objects = s, now
	ctx, cancel := context.WithTimeout(ctx, takeUp)
	defer cancel()
	for {
		done, err := u.taken(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-u.ended:
			return fmt.Errorf("kube-proxy has ended:\n%s", u.lastLines())
		case <-ctx.Done():
			return fmt.Errorf("kube-proxy has not taken up the case after %s:\n%s", takeUp, u.lastLines())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// taken tells whether packets to the present sentinel go to its endpoint, in both families.
func (u *upstream) taken(ctx context.Context) (bool, error) {
	rules, err := readRules(ctx, u.rules, u.fd)
	if err != nil {
		return false, err
	}
	for _, ipv6 := range []bool{false, true} {
		frontend, endpoint := sentinelAt(u.cases, ipv6)
		ways, _ := sim.Run(rules, world(), sim.Packet{
			Src: netip.AddrPortFrom(hostOf("a").ip(ipv6), 40000), Dst: frontend, Proto: uint8(model.TCP), In: "to-a",
		})
		if len(ways) != 1 || ways[0].Dst != endpoint {
			return false, nil
		}
	}
	return true, nil
}

// lastLines is the end of the log, for errors.
func (u *upstream) lastLines() string {
	const most = 4 << 10
	b, _ := os.ReadFile(u.log)
	return string(b[max(0, len(b)-most):])
}
