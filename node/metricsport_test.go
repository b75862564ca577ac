package node

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nodelet/internal/metrics"
	"nodelet/internal/store"
)

func portOf(cfg Config) http.Handler {
	st, _ := store.New()
	n := &Node{cfg: cfg, deps: Deps{Log: slog.New(slog.DiscardHandler)}, started: time.Now(), store: st, metrics: metrics.NewProcess(metrics.Build{Version: "v1"})}
	return n.metricsPort()
}

func TestMetricsPort(t *testing.T) {
	cfg := Defaults()
	cfg.Flags = map[string]string{"proxy-mode": "ebpf"}
	for _, profiling := range []bool{false, true} {
		cfg.ProxyOptions.Profiling = profiling
		h := portOf(cfg)
		paths := "/flagz /healthz /metrics /ready\n"
		profiles := http.StatusNotFound
		if profiling {
			paths, profiles = "/debug "+paths, http.StatusOK
		}
		for path, want := range map[string]struct {
			code int
			text string
		}{
			"/healthz":             {200, "ok"},
			"/metrics":             {200, "kubernetes_build_info"},
			"/flagz":               {200, "kube-proxy flagz\nWarning"},
			"/statusz":             {200, "Emulation version: 1.36\nPaths: " + paths},
			"/debug/pprof/cmdline": {profiles, ""},
			"/proxyMode":           {404, ""}, // no proxy runs
			"/configz":             {404, ""},
		} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want.code || !strings.Contains(w.Body.String(), want.text) {
				t.Errorf("profiling %v: %s: %d\n%s\nwant %d %q", profiling, path, w.Code, w.Body, want.code, want.text)
			}
		}
	}
}

// /configz has what kube-proxy's file would have to say for the same behaviour.
func TestKubeProxyConfiguration(t *testing.T) {
	cfg := Defaults()
	cfg.NodeName = "n1"
	cfg.ProxyOptions.DetectLocalMode = "InterfaceNamePrefix"
	cfg.ProxyOptions.PodInterfaceNamePrefix = "veth"
	cfg.ProxyOptions.NodePortAddresses = []string{"10.0.0.0/8"}
	cfg.ProxyOptions.IPVS.Scheduler = "mh"
	data, err := json.Marshal(cfg.kubeProxyConfiguration("nftables"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"kind":"KubeProxyConfiguration"`, `"apiVersion":"kubeproxy.config.k8s.io/v1alpha1"`, `"hostnameOverride":"n1"`, `"mode":"nftables"`,
		`"masqueradeBit":14`, `"maxPerCore":32768`, `"tcpEstablishedTimeout":"24h0m0s"`, `"clusterCIDR":"10.244.0.0/16"`,
		`"detectLocalMode":"InterfaceNamePrefix"`, `"interfaceNamePrefix":"veth"`, `"nodePortAddresses":["10.0.0.0/8"]`,
		`"metricsBindAddress":"127.0.0.1:10249"`, `"scheduler":"mh"`,
	} {
		if !strings.Contains(string(data), want) {
			t.Errorf("no %s in %s", want, data)
		}
	}
}
