package apiserver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"

	"nodelet/controlplane/pki"
	"nodelet/controlplane/upstream"
)

func testConfig() Config {
	return Config{
		AdvertiseAddress: netip.MustParseAddr("10.77.0.1"), ServiceCIDR: "10.96.0.0/12", ClusterDomain: "example.org",
		KubeletPort: 10250, Etcd: []string{"unix:///tmp/etcd.sock"}, Files: pki.Paths("/pki"), AuthnConfig: "/authn.yaml",
	}
}

// Every flag must be one that this version of upstream knows, and mean what we
// think.
func TestArgs(t *testing.T) {
	o := options.NewServerRunOptions()
	if err := upstream.Parse("apiserver", o.Flags(), testConfig().Args()); err != nil {
		t.Fatal(err)
	}
	if got := o.Authorization.Modes; !slices.Equal(got, []string{"Node", "RBAC"}) {
		t.Errorf("authorization %v", got)
	}
	if got := o.Authentication.ServiceAccounts.Issuers; !slices.Equal(got, []string{"https://kubernetes.default.svc.example.org"}) {
		t.Errorf("issuers %v", got)
	}
	if got := o.Etcd.StorageConfig.Transport.ServerList; !slices.Equal(got, []string{"unix:///tmp/etcd.sock"}) {
		t.Errorf("etcd %v", got)
	}
	if o.Features.EnableProfiling || o.Audit.LogOptions.Path != "" {
		t.Error("profiling or audit is on")
	}
	if !slices.Contains(o.Admission.GenericAdmission.EnablePlugins, "NodeRestriction") {
		t.Error("NodeRestriction is off")
	}
}

func TestArgsOfTheOperatorWin(t *testing.T) {
	c := testConfig()
	c.KubeletPort = 10350
	c.ExtraArgs = []string{"--advertise-address=10.77.0.9", "--event-ttl=5m"}
	o := options.NewServerRunOptions()
	if err := upstream.Parse("apiserver", o.Flags(), c.Args()); err != nil {
		t.Fatal(err)
	}
	if got := o.GenericServerRunOptions.AdvertiseAddress.String(); got != "10.77.0.9" {
		t.Errorf("advertised %s", got)
	}
	if o.KubeletConfig.Port != 10350 {
		t.Errorf("kubelet port %d", o.KubeletConfig.Port)
	}
}

func TestAuthenticationConfig(t *testing.T) {
	const want = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
`
	if got := string(AuthenticationConfig()); got != want {
		t.Errorf("got\n%s", got)
	}
	if !strings.HasPrefix(ReadyPath, "/readyz?exclude=") {
		t.Errorf("ready path %s", ReadyPath)
	}
}
