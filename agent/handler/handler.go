package handler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// maxOutput bounds what is read and told of the other side, as upstream does.
const maxOutput = 10 << 10

// Outcome is what one run of a handler came to.
type Outcome uint8

// The outcomes. Unknown means that the handler could not be run, which says
// nothing about the container.
const (
	Success Outcome = iota
	Failure
	Unknown
)

// String is the outcome in lower case.
func (o Outcome) String() string { return [...]string{"success", "failure", "unknown"}[o] }

// Result is an Outcome with its explanation.
type Result struct {
	Outcome Outcome
	Message string
	// Odd: it succeeded, but users should know of Message.
	Odd bool
}

// String is outcome and message.
func (r Result) String() string { return r.Outcome.String() + ": " + r.Message }

func failure(format string, args ...any) Result {
	return Result{Outcome: Failure, Message: fmt.Sprintf(format, args...)}
}
func unknown(format string, args ...any) Result {
	return Result{Outcome: Unknown, Message: fmt.Sprintf(format, args...)}
}

// Runtime is what is used of cri.Runtime.
type Runtime interface {
	ExecSync(context.Context, *runtimev1.ExecSyncRequest) (*runtimev1.ExecSyncResponse, error)
}

// Config has the values that rule handlers.
type Config struct {
	// Version is major.minor of Kubernetes, for the User-Agent: servers log it.
	Version string
}

// Deps are the seams.
type Deps struct {
	Runtime Runtime
}

// Handlers runs handlers. It holds no state.
type Handlers struct {
	cfg  Config
	deps Deps
}

// New makes a runner of handlers.
func New(cfg Config, deps Deps) *Handlers { return &Handlers{cfg: cfg, deps: deps} }

// Target is the container to run a handler against.
type Target struct {
	ContainerID string
	// Container is its spec, for named ports and variables.
	Container *corev1.Container
	// IP is the pod's primary address: the default host.
	IP netip.Addr
}

// Probe runs a probe once, for at most its timeoutSeconds.
func (h *Handlers) Probe(ctx context.Context, t Target, p *corev1.Probe) Result {
	timeout := time.Duration(max(p.TimeoutSeconds, 1)) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	switch {
	case p.Exec != nil:
		return h.exec(ctx, t, execution{expand(p.Exec.Command, t.Container), timeout})
	case p.HTTPGet != nil:
		return h.get(ctx, t, p.HTTPGet, "kube-probe/"+h.cfg.Version)
	case p.TCPSocket != nil:
		return dial(ctx, t, p.TCPSocket)
	case p.GRPC != nil:
		return h.health(ctx, t, p.GRPC, timeout)
	}
	return unknown("the probe has no handler that this node knows")
}

// Hook runs a lifecycle hook, until it ends or ctx does.
func (h *Handlers) Hook(ctx context.Context, t Target, l *corev1.LifecycleHandler) Result {
	switch {
	case l.Exec != nil:
		return h.exec(ctx, t, execution{l.Exec.Command, 0})
	case l.HTTPGet != nil:
		return h.hookGet(ctx, t, l.HTTPGet)
	case l.TCPSocket != nil:
		return dial(ctx, t, l.TCPSocket)
	case l.Sleep != nil:
		return sleep(ctx, time.Duration(max(l.Sleep.Seconds, 0))*time.Second)
	}
	return failure("the hook has no handler that this node knows")
}

func sleep(ctx context.Context, d time.Duration) Result {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return Result{}
	case <-ctx.Done():
		return failure("container terminated before sleep hook finished")
	}
}

// port resolves a number, the name of one of the container's ports, or a number written as a name.
func port(p intstr.IntOrString, c *corev1.Container) (string, error) {
	n := p.IntValue()
	if p.Type == intstr.String {
		for _, cp := range c.Ports {
			if cp.Name == p.StrVal {
				n = int(cp.ContainerPort)
			}
		}
	}
	if n < 1 || n > 65535 {
		return "", fmt.Errorf("port %q is neither a port number nor the name of a port of container %q", p.String(), c.Name)
	}
	return strconv.Itoa(n), nil
}

// address is the host a user named, or the pod's, with a port.
func (t Target) address(host string, p intstr.IntOrString) (string, error) {
	if host == "" {
		if !t.IP.IsValid() {
			return "", errors.New("the pod has no address yet")
		}
		host = t.IP.String()
	}
	number, err := port(p, t.Container)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, number), nil
}
