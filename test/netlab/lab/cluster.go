package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Cluster is nodelet on all nodes of a lab: `nodelet up` on the first, `nodelet
// node` on the others.
type Cluster struct {
	*Lab
	// Bin is the directory of the programs, Images that of archives to import; may be empty.
	Bin, Images string
	// Flags are added to those of every node's nodelet.
	Flags []string
	// Out is told what happens.
	Out io.Writer
}

// poll is the pause between two looks at something that is not there yet.
const poll = 100 * time.Millisecond

// nodelet is the path of the program.
func (c Cluster) nodelet() string { return filepath.Join(c.Bin, "nodelet") }

// Kubeconfig is the administrator's, as seen from the host; its server address
// works inside the lab.
func (c Cluster) Kubeconfig() string {
	return filepath.Join(c.Nodes[0].Dir, "root/var/lib/nodelet/admin.kubeconfig")
}

// Start brings the cluster up and returns when all nodes are Ready.
func (c Cluster) Start(ctx context.Context) error {
	for i := range c.Nodes {
		began := time.Now()
		start := c.startFirst
		if i > 0 {
			start = c.join
		}
		if err := start(ctx, &c.Nodes[i]); err != nil {
			return err
		}
		if err := c.importImages(ctx, &c.Nodes[i]); err != nil {
			return err
		}
		fmt.Fprintf(c.Out, "%s started, %.1fs\n", c.Nodes[i].Name, time.Since(began).Seconds())
	}
	return c.waitReady(ctx)
}

func (c Cluster) nodeFlags(n *Node) []string {
	// All nodes have the disk of this machine: how full it is says nothing about them. A node that is
	// killed with its lab takes back no option of the machine's.
	flags := []string{"--hostname-override", n.Name, "--node-ip", n.IP.String(), "--cgroup-root", n.Cgroup, "--bin-dir", c.Bin, "--eviction-hard=", "--static-cgroups"}
	return append(flags, c.Flags...)
}

func (c Cluster) startFirst(ctx context.Context, n *Node) error {
	cmd := n.Command(ctx, c.nodelet(), append([]string{"up"}, c.nodeFlags(n)...)...)
	cmd.Stdout, cmd.Stderr = c.Out, c.Out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nodelet up on %s: %w; logs below %s", n.Name, err, filepath.Join(n.Dir, "root/var/lib/nodelet/log"))
	}
	return nil
}

// join starts the daemon, which outlives this process, with a token that the first node makes.
func (c Cluster) join(ctx context.Context, n *Node) error {
	server := fmt.Sprintf("https://%s:6443", c.Nodes[0].IP)
	kubeconfig, err := c.Nodes[0].Run(ctx, filepath.Join(c.Bin, "nodelet-controlplane"), "bootstrap-kubeconfig", "--server", server)
	if err != nil {
		return err
	}
	bootstrap := filepath.Join(n.Dir, "bootstrap.kubeconfig")
	if err := os.WriteFile(bootstrap, []byte(kubeconfig), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(n.Dir, "nodelet.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{c.nodelet(), "node", "--bootstrap-kubeconfig", bootstrap, "--rotate-server-certificates"}, c.nodeFlags(n)...)
	// Not tied to ctx: it runs until the lab ends. setsid takes it from the terminal.
	cmd := n.Command(context.WithoutCancel(ctx), "setsid", append([]string{"--fork"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start nodelet node on %s: %w", n.Name, err)
	}
	return c.waitRuntime(ctx, n, log.Name())
}

// waitRuntime returns when the daemon answers and has its container runtime.
func (c Cluster) waitRuntime(ctx context.Context, n *Node, log string) error {
	for {
		_, err := n.Run(ctx, c.nodelet(), "images", "list")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nodelet on %s is not up, see %s: %w", n.Name, log, err)
		case <-time.After(poll):
		}
	}
}

func (c Cluster) importImages(ctx context.Context, n *Node) error {
	if c.Images == "" {
		return nil
	}
	archives, err := filepath.Glob(filepath.Join(c.Images, "*.tar"))
	if err != nil {
		return err
	}
	for _, a := range archives {
		if _, err := n.Run(ctx, c.nodelet(), "images", "import", a); err != nil {
			return err
		}
	}
	return nil
}

// Kubectl runs kubectl on the first node.
func (c Cluster) Kubectl(ctx context.Context, args ...string) (string, error) {
	return c.Nodes[0].Run(ctx, c.nodelet(), append([]string{"kubectl"}, args...)...)
}

func (c Cluster) waitReady(ctx context.Context) error {
	var last string
	for {
		out, err := c.Kubectl(ctx, "get", "nodes", "-o",
			`jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}`)
		if err == nil && strings.Count(out, "=True\n") == len(c.Nodes) {
			fmt.Fprintln(c.Out, "all "+strconv.Itoa(len(c.Nodes))+" nodes are Ready")
			return nil
		}
		last = out
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait for %d nodes to be Ready, the last state was %q", len(c.Nodes), last), ctx.Err(), err)
		case <-time.After(poll):
		}
	}
}
