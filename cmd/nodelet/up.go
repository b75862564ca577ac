package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nodelet/internal/control"
	"nodelet/internal/proc"
	"nodelet/internal/zpages"
	"nodelet/node"
	"nodelet/node/allinone"
	"nodelet/node/preflight"
)

// upFlags are those of `up` beside the node's.
type upFlags struct {
	node       nodeFlags
	cfg        allinone.Config
	foreground bool
	progressFD int
	timeout    time.Duration
}

func upCommand() *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a one-machine cluster: control plane and node",
		Long: "Starts the bundled control plane and the node daemon in the background and returns when the node is Ready\n" +
			"and the cluster DNS answers. Nothing is lost by starting it twice.",
		Args: cobra.NoArgs,
	}
	fs := c.Flags()
	f.node.add(fs)
	fs.Uint16Var(&f.cfg.APIPort, "secure-port", 6443, "port of the API server")
	fs.StringSliceVar(&f.cfg.EtcdEndpoints, "etcd-endpoints", nil, "use this etcd instead of the embedded one")
	fs.StringArrayVar(&f.cfg.ExtraArgs, "control-plane-arg", nil, "argument for nodelet-controlplane serve, as it is")
	_ = fs.SetAnnotation("control-plane-arg", zpages.Classified, []string{"true"}) // anything may be in there
	fs.BoolVar(&f.foreground, "foreground", false, "stay in the foreground and log to standard error")
	fs.IntVar(&f.progressFD, "progress-fd", 0, "")
	_ = fs.MarkHidden("progress-fd")
	fs.DurationVar(&f.timeout, "timeout", 2*time.Minute, "how long to wait until the cluster is up")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.foreground {
			return f.runForeground(cmd.Context())
		}
		return f.runBackground(cmd)
	}
	return c
}

func (f *upFlags) config() (allinone.Config, error) {
	n, err := f.node.config()
	if err != nil {
		return f.cfg, err
	}
	cfg := f.cfg
	cfg.Node = n
	cfg.ControlPlane = filepath.Join(n.BinDir, "nodelet-controlplane")
	return cfg, nil
}

// runForeground is the daemon itself.
func (f *upFlags) runForeground(ctx context.Context) error {
	var to io.WriteCloser
	if f.progressFD > 0 {
		to = os.NewFile(uintptr(f.progressFD), "progress")
	}
	progress := allinone.NewProgress(to)
	err := f.run(ctx, progress)
	if err != nil {
		progress.Failed("start", err)
	}
	return err
}

func (f *upFlags) run(ctx context.Context, progress *allinone.Progress) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	log, err := f.node.log.logger(os.Stderr)
	if err != nil {
		return err
	}
	f.node.files.report(log)
	release, err := takeLock(cfg.Node)
	if err != nil {
		return err
	}
	defer release()
	if err := preflight.Check(upChecks(cfg)); err != nil {
		return fmt.Errorf("this machine is not ready:\n%w", err)
	}
	progress.Done("machine checked: node %s, address %s", cfg.Node.NodeName, cfg.Node.NodeIPs[0])
	return allinone.Run(ctx, cfg, progress, log)
}

// upChecks adds the control plane's needs to the node's. The API server's port
// is checked by the control plane, which may be running already.
func upChecks(c allinone.Config) preflight.Config {
	p := nodeChecks(c.Node)
	p.Addresses = c.Node.NodeIPs
	p.Files[c.ControlPlane] = "run make build, or name its directory with --bin-dir"
	return p
}

func takeLock(c node.Config) (release func(), err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("not root: namespaces, firewall rules and containers need it; run with sudo")
	}
	return proc.Lock(c.Layout.Lock())
}

// runBackground starts the daemon in a session of its own and shows its progress.
func (f *upFlags) runBackground(cmd *cobra.Command) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("not root: namespaces, firewall rules and containers need it; run with sudo")
	}
	out := cmd.OutOrStdout()
	layout := cfg.Node.Layout
	pid, err := answering(cmd.Context(), layout)
	if err != nil {
		return err
	}
	if pid != 0 {
		fmt.Fprintf(out, "nodelet runs already (pid %d); see: nodelet status\n", pid)
		return nil
	}
	if err := os.MkdirAll(layout.Logs(), 0o755); err != nil {
		return fmt.Errorf("make log directory: %w", err)
	}
	steps, err := f.spawn(layout)
	if err != nil {
		return err
	}
	defer func() { _ = steps.Close() }()
	_ = steps.SetReadDeadline(time.Now().Add(f.timeout))
	last, ok := allinone.Follow(steps, func(s allinone.Step) { fmt.Fprintln(out, s) })
	switch {
	case ok && last.Error == "":
		return nil
	case ok:
		fmt.Fprintf(cmd.ErrOrStderr(), "nodelet did not start; its log: %s\n", layout.Log())
		return errReported
	}
	return fmt.Errorf("not up after %s: the daemon goes on trying if it still runs; see nodelet status, %s and %s",
		f.timeout, layout.Log(), layout.ControlPlaneLog())
}

// answering gives the pid of a daemon that runs and answers; 0 when there is
// none. A daemon that was killed a moment ago is waited for until it is gone.
func answering(ctx context.Context, layout node.Layout) (pid int, err error) {
	p, err := proc.Find(layout.PIDFile(), "nodelet")
	if err != nil || p == nil {
		return 0, err
	}
	defer p.Close()
	client := control.NewClient(layout.Socket())
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		call, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		var status control.Status
		if client.Get(call, "status", &status) == nil && status.PID == p.PID {
			cancel()
			return p.PID, nil
		}
		gone := p.Wait(call) == nil
		cancel()
		if gone {
			return 0, nil
		}
	}
	return 0, fmt.Errorf("nodelet (pid %d) runs but does not answer: see %s, or stop it with nodelet down", p.PID, layout.Log())
}

// spawn starts this program again as the daemon, with the same flags; the
// returned pipe carries its progress.
func (f *upFlags) spawn(layout node.Layout) (*os.File, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program file: %w", err)
	}
	log, err := os.OpenFile(layout.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	defer func() { _ = w.Close() }()
	cmd := exec.Command(exe, append(os.Args[1:len(os.Args):len(os.Args)], "--foreground", "--progress-fd", "3")...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	if err := cmd.Process.Release(); err != nil {
		return nil, fmt.Errorf("let go of the daemon: %w", err)
	}
	return r, nil
}
