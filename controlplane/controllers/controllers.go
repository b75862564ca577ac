package controllers

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"

	"nodelet/controlplane/apiserver"
	"nodelet/controlplane/pki"
	"nodelet/controlplane/upstream"
)

// Config is what the controllers need to know.
type Config struct {
	Kubeconfig    string
	ServiceCIDR   string
	ClusterCIDR   string
	Files         pki.Files
	FlexVolumeDir string   // for the volume plugins of old that nobody has
	ExtraArgs     []string // upstream flags of the operator
}

// Args returns upstream's flags.
func (c Config) Args() []string {
	args := []string{
		"--kubeconfig=" + c.Kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--controllers=*,tokencleaner", // which upstream leaves out: tokens of nodes that join end
		"--use-service-account-credentials=true",
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + c.ClusterCIDR,
		"--service-cluster-ip-range=" + c.ServiceCIDR,
		"--root-ca-file=" + c.Files.CACert,
		"--service-account-private-key-file=" + c.Files.ServiceAccountKey,
		"--cluster-signing-cert-file=" + c.Files.CACert,
		"--cluster-signing-key-file=" + c.Files.CAKey,
		// It is made when missing, and upstream's place for it is in /usr.
		"--flex-volume-plugin-dir=" + c.FlexVolumeDir,
		// Upstream's 20 and 30 protect a shared API server from its controllers;
		// here they only make a rollout of fifty pods slow.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}
	return append(args, c.ExtraArgs...)
}

// Run works until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("make controller options: %w", err)
	}
	all, off, aliases := app.KnownControllers(), app.ControllersDisabledByDefault(), app.ControllerAliases()
	if err := upstream.Parse("controller-manager", o.Flags(all, off, aliases), cfg.Args()); err != nil {
		return err
	}
	c, err := o.Config(ctx, all, off, aliases)
	if err != nil {
		return fmt.Errorf("configure controllers: %w", err)
	}
	c.Kubeconfig.Wrap(func(rt http.RoundTripper) http.RoundTripper { return impatient{rt} })
	if err := app.Run(ctx, c.Complete()); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// impatient lets the controllers start with an API server that has only its
// late hooks to finish. They ask /healthz once a second at the start, so it
// saves them a second.
type impatient struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/healthz" && r.URL.RawQuery == "" {
		r = r.Clone(r.Context())
		r.URL.RawQuery = apiserver.WithoutLateHooks
	}
	return i.next.RoundTrip(r)
}
