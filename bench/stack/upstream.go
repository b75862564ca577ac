package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/lab"
	"nodelet/bench/peer"
)

// Keys lets nodelet's control plane make the keys and kubeconfigs for a moment, and
// removes what it stored: upstream's programs have none to make them with.
func (s *Stack) Keys(ctx context.Context) error {
	p, err := s.ControlPlane(ctx)
	if err != nil {
		return err
	}
	if err := s.NodeKeys(ctx); err != nil {
		return err
	}
	p.Stop()
	s.processes = s.processes[:len(s.processes)-1]
	s.API.client.CloseIdleConnections()
	s.API = nil
	entries, err := os.ReadDir(s.privateDir())
	if err != nil {
		return fmt.Errorf("look at the keys: %w", err)
	}
	for _, e := range entries {
		if e.Name() == "pki" || filepath.Ext(e.Name()) == ".kubeconfig" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.privateDir(), e.Name())); err != nil {
			return fmt.Errorf("remove what the control plane stored: %w", err)
		}
	}
	return nil
}

// privateDir is where the control plane keeps what is nobody else's: its keys, its store.
func (s *Stack) privateDir() string { return filepath.Join(s.controlPlaneDir(), "controlplane") }

// ControlPlanePrograms are those of Kubernetes that Upstream starts.
func ControlPlanePrograms() []string {
	return []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

// Upstream starts etcd, API server, controllers and scheduler as processes of
// their own, with upstream's defaults wherever a single machine can have them,
// and waits until the API server is ready. Keys must be there.
func (s *Stack) Upstream(ctx context.Context) ([]*lab.Process, error) {
	return s.UpstreamAt(ctx, peer.Kubernetes)
}

// UpstreamAt is Upstream with programs of a version of Kubernetes.
func (s *Stack) UpstreamAt(ctx context.Context, version string) ([]*lab.Process, error) {
	program := func(name string) string { return filepath.Join(s.Node.Peers, peer.File(name, version)) }
	pki := func(name string) string { return filepath.Join(s.privateDir(), "pki", name) }
	etcd, err := s.start(filepath.Join(s.Node.Peers, "etcd"), "--data-dir", filepath.Join(s.Node.Dir, "etcd"),
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--log-level=warn")
	if err != nil {
		return nil, err
	}
	server, err := s.start(program("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379",
		"--advertise-address="+area.NodeIP, "--service-cluster-ip-range=10.96.0.0/12",
		"--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"), "--client-ca-file="+pki("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true", "--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file="+pki("sa.pub"), "--service-account-signing-key-file="+pki("sa.key"),
		"--requestheader-client-ca-file="+pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file="+pki("front-proxy-client.crt"), "--proxy-client-key-file="+pki("front-proxy-client.key"),
		"--kubelet-client-certificate="+pki("apiserver-kubelet-client.crt"), "--kubelet-client-key="+pki("apiserver-kubelet-client.key"))
	if err != nil {
		return nil, err
	}
	if err := s.eventually(ctx, "the API server", func() error {
		api, err := Dial(s.Admin())
		if err != nil {
			return err
		}
		s.API = api
		return api.Do(ctx, http.MethodGet, "/readyz", nil, nil)
	}); err != nil {
		return nil, err
	}
	config := filepath.Join(s.privateDir(), "controller-manager.kubeconfig")
	controllers, err := s.start(program("kube-controller-manager"), "--kubeconfig="+config,
		"--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--leader-elect=false", "--use-service-account-credentials=true",
		"--allocate-node-cidrs=true", "--cluster-cidr=10.244.0.0/16", "--service-cluster-ip-range=10.96.0.0/12", "--root-ca-file="+pki("ca.crt"),
		"--service-account-private-key-file="+pki("sa.key"), "--cluster-signing-cert-file="+pki("ca.crt"), "--cluster-signing-key-file="+pki("ca.key"))
	if err != nil {
		return nil, err
	}
	config = filepath.Join(s.privateDir(), "scheduler.kubeconfig")
	scheduler, err := s.start(program("kube-scheduler"), "--kubeconfig="+config,
		"--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config, "--leader-elect=false")
	return []*lab.Process{etcd, server, controllers, scheduler}, err
}

// Join gives nodes of nodelet the rights that they need in a cluster of upstream's, as docs/join.md says, and
// the API server those that kubeadm gives it: to ask kubelets for logs and commands.
func (s *Stack) Join(ctx context.Context) error {
	kubectl := func(args ...string) error {
		return command(ctx, filepath.Join(s.Node.Bin, "nodelet"), append([]string{"kubectl", "--kubeconfig=" + s.Admin()}, args...)...)
	}
	return errors.Join(kubectl("apply", "-f", filepath.Join(filepath.Dir(s.Node.Bin), "deploy", "rbac.yaml")),
		kubectl("create", "clusterrolebinding", "kubelet-api", "--clusterrole=system:kubelet-api-admin", "--user=kube-apiserver-kubelet-client"))
}

// UpstreamNode starts containerd, kubelet, kube-proxy and CoreDNS.
func (s *Stack) UpstreamNode(ctx context.Context) ([]*lab.Process, error) {
	runtime, err := s.Containerd(ctx)
	if err != nil {
		return nil, err
	}
	config := s.Admin()
	proxyFile, coreFile := filepath.Join(s.Node.Dir, "kube-proxy.yaml"), filepath.Join(s.Node.Dir, "Corefile")
	err = errors.Join(os.WriteFile(proxyFile, fmt.Appendf(nil, `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: %s}
hostnameOverride: %s
mode: nftables
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, config, area.NodeName), 0o600), os.WriteFile(coreFile, fmt.Appendf(nil, `.:1053 {
    errors
    health 127.0.0.1:8180
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig %s
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus 127.0.0.1:9153
    cache 30
    loadbalance
}
`, config), 0o600))
	if err != nil {
		return nil, fmt.Errorf("configure upstream's programs: %w", err)
	}
	proxy, err := s.start(filepath.Join(s.Node.Peers, "kube-proxy"), "--config="+proxyFile)
	if err != nil {
		return nil, err
	}
	dns, err := s.start(filepath.Join(s.Node.Peers, "coredns"), "-conf", coreFile)
	if err != nil {
		return nil, err
	}
	kubelet, err := s.Kubelet(ctx)
	return []*lab.Process{runtime, proxy, dns, kubelet}, err
}

// AllInOne runs `nodelet up` and returns once the API says that the node is Ready. The
// command itself may then still be at work: its end comes from the channel.
func (s *Stack) AllInOne(ctx context.Context) (<-chan error, error) {
	up := make(chan error, 1)
	go func() { up <- s.up(ctx) }()
	if err := s.eventually(ctx, "the API server", func() error {
		api, err := Dial(filepath.Join(keys, "admin.kubeconfig"))
		if err != nil {
			return err
		}
		s.API = api
		return api.Do(ctx, http.MethodGet, "/livez/ping", nil, nil)
	}); err != nil {
		return nil, err
	}
	return up, s.API.WatchNode(ctx, area.NodeName)
}

// up returns when the node is Ready and the cluster DNS has answered.
func (s *Stack) up(ctx context.Context) error {
	return command(ctx, filepath.Join(s.Node.Bin, "nodelet"), "up", "--hostname-override="+area.NodeName, "--node-ip="+area.NodeIP,
		"--cgroup-root="+s.Node.Cgroup, "--eviction-hard=")
}

// Again stops an all-in-one and its pods, starts it on the data that it left, and gives how long the
// start took.
func (s *Stack) Again(ctx context.Context) (time.Duration, error) {
	if err := command(ctx, filepath.Join(s.Node.Bin, "nodelet"), "down"); err != nil {
		return 0, err
	}
	begin := time.Now()
	err := s.up(ctx)
	return time.Since(begin), err
}

// PIDs are the daemon and the control plane that `nodelet up` left running.
func PIDs() (daemon, controlPlane int, err error) {
	read := func(name string) (pid int, err error) {
		b, err := os.ReadFile("/run/nodelet/" + name + ".pid")
		if err == nil {
			_, err = fmt.Sscan(string(b), &pid)
		}
		return pid, err
	}
	daemon, err1 := read("nodelet")
	controlPlane, err2 := read("controlplane")
	return daemon, controlPlane, errors.Join(err1, err2)
}
