package serve

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"nodelet/controlplane/etcd"
)

func TestCluster(t *testing.T) {
	cfg := testConfig(t)
	p := begin(t, cfg)
	p.awaitReady(t)
	admin := client(t, cfg.adminKubeconfig())
	t.Run("workloads", func(t *testing.T) { checkWorkloads(t, admin, restConfig(t, cfg.adminKubeconfig())) })
	t.Run("node", func(t *testing.T) { checkNode(t, cfg, admin) })
	t.Run("join", func(t *testing.T) { checkJoin(t, cfg, admin) })
	t.Run("dns service", func(t *testing.T) { checkDNSService(t, admin) })
	t.Run("anonymous", func(t *testing.T) { checkAnonymous(t, cfg) })
	t.Run("second process", func(t *testing.T) {
		out := begin(t, cfg).awaitEnd(t, 10*time.Second)
		if !strings.Contains(out, "another control plane runs with this data directory") {
			t.Errorf("no word about the lock:\n%s", out)
		}
		other := testConfig(t)
		other.Port = cfg.Port
		out = begin(t, other).awaitEnd(t, 10*time.Second)
		if !strings.Contains(out, fmt.Sprintf("port %d is in use by serve.test (pid %d)", cfg.Port, p.cmd.Process.Pid)) {
			t.Errorf("no word about who has the port:\n%s", out)
		}
	})
	t.Run("stop", func(t *testing.T) {
		if _, err := os.Stat(cfg.PIDFile); err != nil {
			t.Error(err)
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		out := p.awaitEnd(t, 8*time.Second)
		if p.err != nil {
			t.Errorf("ended with %v\n%s", p.err, out)
		}
		if strings.Index(out, "apiserver stopped") > strings.Index(out, "etcd stopped") {
			t.Errorf("the database stopped before the API server:\n%s", out)
		}
		if _, err := os.Stat(cfg.PIDFile); err == nil {
			t.Error("the pid file is still there")
		}
	})
}

// checkWorkloads tries what everybody's first manifests need.
func checkWorkloads(t *testing.T, c kubernetes.Interface, conf *rest.Config) {
	ctx := t.Context()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "demo"}}
	if _, err := c.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "default service account", func() error {
		_, err := c.CoreV1().ServiceAccounts("demo").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	eventually(t, "kube-root-ca.crt", func() error {
		_, err := c.CoreV1().ConfigMaps("demo").Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
	token, err := c.CoreV1().ServiceAccounts("demo").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	as := rest.AnonymousClientConfig(conf)
	as.BearerToken = token.Status.Token
	pod, err := kubernetes.NewForConfig(as)
	if err != nil {
		t.Fatal(err)
	}
	who, err := pod.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if name := who.Status.UserInfo.Username; name != "system:serviceaccount:demo:default" {
		t.Errorf("token stands for %s", name)
	}
	svc, err := c.CoreV1().Services("demo").Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(svc.Spec.ClusterIP, "10.") {
		t.Errorf("service address %q", svc.Spec.ClusterIP)
	}
	for _, class := range []string{"system-node-critical", "system-cluster-critical"} {
		if _, err := c.SchedulingV1().PriorityClasses().Get(ctx, class, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func checkNode(t *testing.T, cfg Config, admin kubernetes.Interface) {
	ctx := t.Context()
	node := client(t, cfg.DataDir+"/node.kubeconfig")
	_, err := node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "pod range", func() error {
		n, err := node.CoreV1().Nodes().Get(ctx, "n1", metav1.GetOptions{})
		if err == nil && !strings.HasSuffix(n.Spec.PodCIDR, ".0/24") {
			err = fmt.Errorf("pod range %q, want a /24", n.Spec.PodCIDR)
		}
		return err
	})
	_, err = node.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("a node registers another: %v", err)
	}
	for what, err := range map[string]error{
		"services":        second(node.CoreV1().Services("").List(ctx, metav1.ListOptions{})),
		"nodes":           second(node.CoreV1().Nodes().List(ctx, metav1.ListOptions{})),
		"namespaces":      second(node.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})),
		"endpointslices":  second(node.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})),
		"networkpolicies": second(node.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{})),
	} {
		if err != nil {
			t.Errorf("a node may not list %s: %v", what, err)
		}
	}
	if _, err := node.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("a node lists secrets: %v", err)
	}
	if err := admin.CoreV1().Nodes().Delete(ctx, "n1", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func checkDNSService(t *testing.T, c kubernetes.Interface) {
	svc, err := c.CoreV1().Services("kube-system").Get(t.Context(), "kube-dns", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	for _, p := range svc.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol))
	}
	if got := strings.Join(ports, ", "); got != "dns 53/UDP, dns-tcp 53/TCP, metrics 9153/TCP" {
		t.Errorf("ports %s", got)
	}
	if svc.Spec.ClusterIP != "10.96.0.10" || len(svc.Spec.Selector) > 0 || svc.Labels["k8s-app"] != "kube-dns" ||
		svc.Labels["service.kubernetes.io/service-proxy-name"] != "nodelet-dns" {
		t.Errorf("service %+v %+v", svc.Labels, svc.Spec)
	}
}

// checkAnonymous: health and nothing else without credentials.
func checkAnonymous(t *testing.T, cfg Config) {
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	ask := func(path string) (status int) {
		t.Helper()
		resp, err := c.Get(cfg.url() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	// Two of upstream's start hooks wait for a second; until then /livez, which
	// counts them, is red although everything works.
	deadline := time.Now().Add(15 * time.Second)
	for ask("/livez") == http.StatusInternalServerError && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	for path, want := range map[string]int{
		"/livez": 200, "/api/v1/namespaces": 401, "/version": 401, "/metrics": 401,
	} {
		if got := ask(path); got != want {
			t.Errorf("%s: status %d, want %d", path, got, want)
		}
	}
}

// A kill at any moment loses nothing that was acknowledged, and the next start
// works.
func TestKilledAnyTime(t *testing.T) {
	rounds := 8
	if testing.Short() {
		rounds = 3
	}
	cfg := testConfig(t)
	cfg.DataDir = filepath.Join(cfg.DataDir, strings.Repeat("deep", 25)) // longer than a socket's path may be
	var written []string
	for i := range rounds {
		p := begin(t, cfg)
		if i%2 == 0 { // while it starts
			time.Sleep(time.Duration(rand.IntN(1500)) * time.Millisecond)
		} else { // while it works
			p.awaitReady(t)
			alarm := time.After(time.Duration(rand.IntN(1000)) * time.Millisecond)
			written = append(written, writeUntil(t, cfg, i, alarm)...)
		}
		p.kill()
	}
	if len(written) == 0 {
		t.Error("nothing was written, so nothing was tested")
	}
	p := begin(t, cfg)
	p.awaitReady(t)
	c := client(t, cfg.adminKubeconfig())
	for _, name := range written {
		if _, err := c.CoreV1().ConfigMaps("default").Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Errorf("acknowledged and lost: %v", err)
		}
	}
}

// writeUntil creates objects until the alarm and returns the acknowledged ones.
func writeUntil(t *testing.T, cfg Config, round int, alarm <-chan time.Time) (names []string) {
	t.Helper()
	c := client(t, cfg.adminKubeconfig())
	for n := 0; ; n++ {
		select {
		case <-alarm:
			return names
		default:
		}
		name := fmt.Sprintf("round-%d-%d", round, n)
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if _, err := c.CoreV1().ConfigMaps("default").Create(context.Background(), cm, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
}

func TestExternalDatabase(t *testing.T) {
	dir, err := os.MkdirTemp("", "etcd") //nolint:usetesting // a short path: sockets have no more than 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db, err := etcd.Start(t.Context(), etcd.Config{Dir: dir + "/data", Socket: dir + "/s", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Stop()
	if err := db.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	cfg.EtcdEndpoints = []string{etcd.Endpoint(dir + "/s")}
	p := begin(t, cfg)
	p.awaitReady(t)
	p.kill()
	if _, err := os.Stat(cfg.in("etcd")); err == nil {
		t.Error("the embedded database was made, too")
	}
}

func TestDamagedDatabase(t *testing.T) {
	cfg := testConfig(t)
	p := begin(t, cfg)
	p.awaitReady(t)
	p.kill()
	if err := os.WriteFile(cfg.in("etcd/member/snap/db"), []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	out := begin(t, cfg).awaitEnd(t, 30*time.Second)
	if !strings.Contains(out, "restore a backup") || strings.Contains(out, "goroutine ") {
		t.Errorf("no clear word about the damage:\n%s", out)
	}
}

func TestNewerData(t *testing.T) {
	cfg := testConfig(t)
	if err := os.MkdirAll(cfg.dir(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.in("version"), []byte("99\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := begin(t, cfg).awaitEnd(t, 10*time.Second)
	if !strings.Contains(out, "written by a newer nodelet") {
		t.Errorf("no word about the version:\n%s", out)
	}
}
