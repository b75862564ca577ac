package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"nodelet/internal/netns"
	"nodelet/internal/nl"
)

// Where labs are kept.
const (
	stateRoot = "/run/nodelet-lab"
	dataRoot  = "/var/lib/nodelet-lab"
)

// The wire's networks; documentation ranges, they exist inside the lab only.
const (
	network4 = "192.0.2."
	network6 = "2001:db8::"
	// routerHost is the wire's own address, every node's default router.
	routerHost = 254
	wireMTU    = 1500
	maxNodes   = 50
)

// Lab is a running lab, or what is left of one.
type Lab struct {
	ID    string `json:"id"`
	Nodes []Node `json:"nodes"`
}

// Node is one machine of a lab.
type Node struct {
	// Name is the host name: node1, node2...
	Name string     `json:"name"`
	IP   netip.Addr `json:"ip"`
	IP6  netip.Addr `json:"ip6"`
	// PID is the holder's, Start its start time, so that another process with
	// the same number is not taken for it.
	PID   int    `json:"pid"`
	Start string `json:"start"`
	// Dir holds the node's directories on the host.
	Dir string `json:"dir"`
	// Cgroup is the cgroup of the node's pods, as `--cgroup-root` wants it.
	Cgroup string `json:"cgroup"`
}

// Options of a new lab.
type Options struct {
	ID    string
	Nodes int
	// Bound ends the lab's processes together with the calling process.
	Bound bool
}

func (l *Lab) stateDir() string  { return filepath.Join(stateRoot, l.ID) }
func (l *Lab) stateFile() string { return filepath.Join(l.stateDir(), "lab.json") }
func (l *Lab) wire() string      { return filepath.Join(l.stateDir(), "wire") }

// DataDir holds all nodes' directories.
func (l *Lab) DataDir() string { return filepath.Join(dataRoot, l.ID) }

// Up makes a lab of empty nodes. A lab of that id must not exist.
func Up(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("make lab: namespaces need root; run with sudo")
	}
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return nil, fmt.Errorf("make lab: %d nodes: between 1 and %d are possible", o.Nodes, maxNodes)
	}
	if o.ID == "" || strings.ContainsAny(o.ID, "/. \t\n") || len(o.ID) > 20 {
		return nil, fmt.Errorf("make lab: id %q: up to 20 letters, digits and dashes", o.ID)
	}
	l := &Lab{ID: o.ID}
	if _, err := os.Stat(l.stateDir()); err == nil {
		return nil, fmt.Errorf("make lab %s: it exists; `make lab-down` removes it", o.ID)
	}
	if err := l.up(o); err != nil {
		return nil, errors.Join(fmt.Errorf("make lab %s: %w", o.ID, err), Down(o.ID))
	}
	return l, nil
}

// up writes the state before and after each step that leaves something behind.
func (l *Lab) up(o Options) error {
	err := locked(func() error {
		if err := os.MkdirAll(l.stateDir(), 0o755); err != nil {
			return err
		}
		return errors.Join(l.save(), makeDirs(privateDirs()))
	})
	if err != nil {
		return err
	}
	if err := l.makeWire(); err != nil {
		return err
	}
	for i := range o.Nodes {
		if err := l.addNode(i+1, o.Bound); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) makeWire() error {
	ns, err := netns.Create(l.wire())
	if err != nil {
		return err
	}
	defer ns.Close()
	c, err := nl.OpenAt(ns.Fd())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.AddBridge("wire"); err != nil {
		return err
	}
	return setAddrs(c, "wire", routerHost)
}

func setAddrs(c *nl.Conn, link string, host int) error {
	lnk, err := c.Link(link)
	if err != nil {
		return err
	}
	for _, p := range []string{fmt.Sprintf("%s%d/24", network4, host), fmt.Sprintf("%s%x/64", network6, host)} {
		if err := c.AddAddr(nl.Addr{Prefix: netip.MustParsePrefix(p), Link: lnk.Index}); err != nil {
			return err
		}
	}
	return errors.Join(c.SetUp(1), c.SetUp(lnk.Index))
}

// addNode starts a holder, plugs it into the wire, and lets it go on.
func (l *Lab) addNode(n int, bound bool) error {
	node := Node{
		Name: fmt.Sprintf("node%d", n), Dir: filepath.Join(l.DataDir(), fmt.Sprintf("node%d", n)),
		IP:     netip.MustParseAddr(fmt.Sprintf("%s%d", network4, n)),
		IP6:    netip.MustParseAddr(fmt.Sprintf("%s%x", network6, n)),
		Cgroup: fmt.Sprintf("/nodelet-lab-%s-%d", l.ID, n),
	}
	if err := os.MkdirAll(node.Dir, 0o755); err != nil {
		return err
	}
	h, err := startHolder(&node, bound)
	if err != nil {
		return fmt.Errorf("start %s: %w", node.Name, err)
	}
	l.Nodes = append(l.Nodes, node)
	if err := l.save(); err != nil {
		return err
	}
	if err := l.plug(node, n); err != nil {
		return err
	}
	return h.proceed()
}

// plug joins a node's eth0 to the wire.
func (l *Lab) plug(node Node, n int) error {
	inside, err := netns.OfProcess(node.PID)
	if err != nil {
		return err
	}
	defer inside.Close()
	wire, err := netns.Open(l.wire())
	if err != nil {
		return err
	}
	defer wire.Close()
	w, err := nl.OpenAt(wire.Fd())
	if err != nil {
		return err
	}
	defer w.Close()
	bridge, err := w.Link("wire")
	if err != nil {
		return err
	}
	port, err := w.AddVeth(nl.Veth{Name: node.Name, MTU: wireMTU, PeerNS: inside.Fd(), PeerName: "eth0"})
	if err != nil {
		return err
	}
	if err := w.SetMaster(port, bridge.Index); err != nil {
		return err
	}
	c, err := nl.OpenAt(inside.Fd())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := setAddrs(c, "eth0", n); err != nil {
		return err
	}
	eth0, err := c.Link("eth0")
	if err != nil {
		return err
	}
	router := netip.MustParseAddr(fmt.Sprintf("%s%d", network4, routerHost))
	return c.ReplaceRoute(nl.Route{Dst: netip.MustParsePrefix("0.0.0.0/0"), Via: router, Link: eth0.Index, Proto: rtprotStatic})
}

// rtprotStatic says that an administrator made the route.
const rtprotStatic = 4

// Open finds a lab again.
func Open(id string) (*Lab, error) {
	l := &Lab{ID: id}
	text, err := os.ReadFile(l.stateFile())
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w (`make lab` makes one)", id, err)
	}
	if err := json.Unmarshal(text, l); err != nil {
		return nil, fmt.Errorf("open lab %s: %s: %w", id, l.stateFile(), err)
	}
	return l, nil
}

func (l *Lab) save() error {
	text, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	tmp := l.stateFile() + ".new"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, l.stateFile())
}

// Node gives the nth node, counted from 1.
func (l *Lab) Node(n int) (*Node, error) {
	if n < 1 || n > len(l.Nodes) {
		return nil, fmt.Errorf("lab %s has nodes 1 to %d, not %d", l.ID, len(l.Nodes), n)
	}
	return &l.Nodes[n-1], nil
}
