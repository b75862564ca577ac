package scheduler

import (
	"context"
	"fmt"

	"k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"nodelet/controlplane/upstream"
)

// Config is what the scheduler needs to know.
type Config struct {
	Kubeconfig string
	ExtraArgs  []string // upstream flags of the operator
}

// Args returns upstream's flags.
func (c Config) Args() []string {
	args := []string{
		"--kubeconfig=" + c.Kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		// Upstream's 50 and 100 are less than the 50 pods at once of one
		// Deployment need.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}
	return append(args, c.ExtraArgs...)
}

// Run works until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	o := options.NewOptions()
	if err := upstream.Parse("scheduler", *o.Flags, cfg.Args()); err != nil {
		return err
	}
	cc, s, err := app.Setup(ctx, o)
	if err != nil {
		return fmt.Errorf("configure scheduler: %w", err)
	}
	// Run answers every end with an error, the wanted one too.
	if err := app.Run(ctx, cc, s); ctx.Err() == nil {
		return err
	}
	return nil
}
