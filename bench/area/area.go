package area

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/bench/result"
	"nodelet/internal/netns"
)

// Options are how much is measured.
type Options struct {
	// Runs is how many rounds are made: everybody's turn, then everybody's again.
	Runs int
	// Quick takes small sizes and few samples: enough to see that it works.
	Quick bool
	// Long is for how long the area scale changes things.
	Long time.Duration
	// Size is the only number of objects that is measured, in areas that have sizes; 0 for all.
	Size int
	// Profile is the directory for profiles of ours; empty for none.
	Profile string
}

// Area measures one part of the product.
type Area struct {
	Name string
	// Extra: it is measured only when it is named.
	Extra       bool
	Contestants []result.Contestant
	Figures     []*result.Figure
	// Peers are programs of upstream that must be built, Tools those of the distribution that must be there.
	Peers, Tools []string
	// Turns are made one after the other, each on a node of its own.
	Turns func(Options) []Turn
	// Measure runs on that node, with a far one beside it.
	Measure func(context.Context, *Node, Turn) error
	// Derive adds figures that follow from those of several turns; may be nil.
	Derive func(*result.Area)
}

// Result is the empty result of the area.
func (a *Area) Result() *result.Area {
	return &result.Area{Name: a.Name, Contestants: a.Contestants, Figures: a.Figures}
}

// Turn is one contestant's time on a node.
type Turn struct {
	Who   string `json:"who"`
	Round int    `json:"round"`
	// Size is the number of objects, where the area has sizes.
	Size  int           `json:"size,omitempty"`
	Quick bool          `json:"quick,omitempty"`
	Long  time.Duration `json:"long,omitempty"`
	// Profile is that of Options.
	Profile string `json:"profile,omitempty"`
}

// String is the turn for people.
func (t Turn) String() string {
	s := fmt.Sprintf("round %d, %s", t.Round+1, t.Who)
	if t.Size > 0 {
		s += fmt.Sprintf(", %d", t.Size)
	}
	return s
}

// The addresses of the two nodes of every lab; test/netlab/lab gives them.
const (
	NodeIP   = "192.0.2.1"
	FarIP    = "192.0.2.2"
	NodeName = "node1"
)

// FarFD is the file descriptor of the far node's network namespace in a process that measures, BareFD
// that of a node on which nothing runs.
const (
	FarFD  = 3
	BareFD = 4
)

// Node is the node that is measured on.
type Node struct {
	// Bin has nodelet's programs, Peers upstream's.
	Bin   string `json:"bin"`
	Peers string `json:"peers"`
	// Dir is on disk and goes with the lab; Run is in memory.
	Dir string `json:"dir"`
	Run string `json:"run"`
	// Cgroup is the one for the node's pods.
	Cgroup string `json:"cgroup"`

	mu  sync.Mutex
	out io.Writer
	far *netns.NS
}

// Sample is one line that a measuring process prints: values of a figure, or a note of progress.
type Sample struct {
	Figure string    `json:"figure,omitempty"`
	Who    string    `json:"who,omitempty"`
	Values []float64 `json:"values,omitempty"`
	Note   string    `json:"note,omitempty"`
}

// Open makes the node usable in the process that measures; samples go to out.
func (n *Node) Open(out io.Writer) error {
	n.out = out
	far, err := netns.Open(NetworkFile(FarFD))
	if err != nil {
		return fmt.Errorf("open the far node's network: %w", err)
	}
	n.far = far
	for _, dir := range []string{n.Dir, n.Run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	return nil
}

// Add reports values of a figure of the contestant whose turn it is, or of who.
func (n *Node) Add(figure, who string, values ...float64) {
	n.say(Sample{Figure: figure, Who: who, Values: values})
}

// Note shows progress.
func (n *Node) Note(format string, args ...any) { n.say(Sample{Note: fmt.Sprintf(format, args...)}) }

func (n *Node) say(s Sample) {
	b, err := json.Marshal(s)
	if err != nil { // an infinity or no number: nothing that was measured
		b, _ = json.Marshal(Sample{Note: fmt.Sprintf("%s: %v", s.Figure, err)})
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	_, _ = n.out.Write(append(b, '\n')) // the harness is gone: so are we soon
}

// Far calls fn in the far node's network; sockets made there stay there.
func (n *Node) Far(fn func() error) error { return n.far.Do(fn) }

// Shell runs a line on the node.
func (n *Node) Shell(line string) error { return shell(line) }

func shell(line string) error {
	out, err := exec.Command("sh", "-ec", line).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.TrimSpace(line), err, out)
	}
	return nil
}

// BareShell runs a line with the bare node's network.
func (n *Node) BareShell(line string) error {
	bare, err := netns.Open(NetworkFile(BareFD))
	if err != nil {
		return fmt.Errorf("open the bare node's network: %w", err)
	}
	defer bare.Close()
	return bare.Do(func() error { return shell(line) })
}

// NetworkFile names the network namespace behind FarFD or BareFD.
func NetworkFile(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// FarShell runs a line with the far node's network.
func (n *Node) FarShell(line string) error { return n.Far(func() error { return shell(line) }) }

// OwnCgroup puts this process and all that it starts into a cgroup of their own,
// which looks like the root of the cgroup2 tree: programs attached there see
// nothing of the rest of the machine, and the machine nothing of them.
func (n *Node) OwnCgroup() error {
	root := CgroupRoot()
	if root == "" {
		return nil // there is nothing to attach to
	}
	dir := filepath.Join(root, n.Cgroup)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
		return fmt.Errorf("enter cgroup %s: %w", dir, err)
	}
	if err := unix.Mount(dir, root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount cgroup %s on %s: %w", dir, root, err)
	}
	return nil
}

// CgroupRoot is where the cgroup2 tree is mounted; empty for nowhere.
func CgroupRoot() string {
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			return root
		}
	}
	return ""
}
