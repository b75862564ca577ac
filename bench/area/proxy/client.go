package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"nodelet/internal/netns"
)

// ClientCommand is how a turn calls this program to have a client.
const ClientCommand = "client"

// clientFD is the file descriptor of the client's network namespace in its process.
const clientFD = 3

// client is a process that makes connections from one place. There is one on the node, one outside of
// it, and one on a node like the measured one but without any proxy: neither its network nor its cgroup
// has rules or programs. What a proxy adds is the difference to that one in the same second.
type client struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// ask is what a client does, answer what came out.
type ask struct {
	What  string         `json:"what"`
	To    netip.AddrPort `json:"to"`
	Count int            `json:"count,omitempty"`
	Over  time.Duration  `json:"over,omitempty"`
}

type answer struct {
	Values []float64 `json:"values"`
	Err    string    `json:"err,omitempty"`
}

// What can be asked for.
const (
	askConnects = "connects"
	askRate     = "rate"
	askFlow     = "flow"
)

// startClient starts a client in the network namespace that a file names, and in the cgroup of the caller.
func startClient(namespace string) (*client, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	ns, err := os.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("open the client's network: %w", err)
	}
	defer ns.Close()
	c := &client{cmd: exec.Command(self, ClientCommand)}
	c.cmd.ExtraFiles = []*os.File{ns} // clientFD
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a client: %w", err)
	}
	c.out = json.NewDecoder(out)
	return c, nil
}

func (c *client) ask(a ask) ([]float64, error) {
	if err := json.NewEncoder(c.in).Encode(a); err != nil {
		return nil, fmt.Errorf("ask a client: %w", err)
	}
	var got answer
	if err := c.out.Decode(&got); err != nil {
		return nil, fmt.Errorf("hear a client: %w", err)
	}
	if got.Err != "" {
		return nil, fmt.Errorf("client: %s", got.Err)
	}
	return got.Values, nil
}

// one is ask for a single value.
func (c *client) one(what string, to netip.AddrPort, over time.Duration) (float64, error) {
	v, err := c.ask(ask{What: what, To: to, Over: over})
	if err != nil {
		return 0, err
	}
	return v[0], nil
}

func (c *client) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait() // it has no more to say
}

// Client is that process: it answers until its input ends.
func Client(in io.Reader, out io.Writer) error {
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", clientFD))
	if err != nil {
		return fmt.Errorf("open the client's network: %w", err)
	}
	defer ns.Close()
	for asks := json.NewDecoder(in); ; {
		var a ask
		if err := asks.Decode(&a); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read what is asked: %w", err)
		}
		values, err := a.do(ns)
		got := answer{Values: values}
		if err != nil {
			got.Err = err.Error()
		}
		if err := json.NewEncoder(out).Encode(got); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
}

func (a *ask) do(ns *netns.NS) (values []float64, err error) {
	switch a.What {
	case askConnects:
		err = ns.Do(func() (err error) {
			values, err = latency(a.To, a.Count)
			return err
		})
		return values, err
	case askRate:
		v, err := rate(ns.Do, a.To, a.Over)
		return []float64{v}, err
	case askFlow:
		v, err := flow(ns.Do, a.To, a.Over)
		return []float64{v}, err
	}
	return nil, fmt.Errorf("nobody knows %q", a.What)
}
