package lab

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// Command prepares a command to run inside the node, as if typed there.
func (n *Node) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	all := append([]string{"--target", strconv.Itoa(n.PID), "--mount", "--net", "--pid", "--uts", "--ipc", "--", name}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", all...)
	// What the command leaves in the background may hold its output open.
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command inside the node and returns what it prints.
func (n *Node) Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := n.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %s %v: %w: %s", n.Name, name, args, err, out)
	}
	return string(out), nil
}
