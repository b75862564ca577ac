package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nodelet/bench/area"
	"nodelet/bench/peer"
	"nodelet/bench/result"
	"nodelet/internal/cgroup"
	netlab "nodelet/test/netlab/lab"
)

const (
	// usualLab is one for all, so that a run finds what a killed one left.
	usualLab = "bench"
	// turnLimit is far more than any turn takes.
	turnLimit = 15 * time.Minute
	// quiet is how long the machine is looked at before a turn.
	quiet = 500 * time.Millisecond
)

// harness is one run.
type harness struct {
	bin, peers, file, lab string
	// who is part of the names of those who take part; empty for all.
	who     string
	options area.Options
	result  *result.File
	locked  *os.File
}

// run measures the areas. What was measured before an error or an interruption is reported, too.
func (h *harness) run(ctx context.Context, areas []*area.Area) error {
	if err := h.prepare(ctx, areas); err != nil {
		return err
	}
	var errs []error
	for _, a := range areas {
		r := a.Result()
		h.result.Put(r)
		err := h.area(ctx, a, r)
		if a.Derive != nil {
			a.Derive(r)
		}
		errs = append(errs, err, h.result.Write(h.file))
		fmt.Println()
		r.Print(os.Stdout)
		if ctx.Err() != nil {
			break
		}
	}
	if h.options.Quick {
		fmt.Println("\nquick: sizes and samples were smaller than the names of figures say; this shows that it works, not how well")
	}
	fmt.Printf("\n%s\nevery measurement: %s\n", h.result.Machine.String(), h.file)
	return errors.Join(errs...)
}

// prepare builds the peers and removes what a killed run left.
func (h *harness) prepare(ctx context.Context, areas []*area.Area) error {
	var peers []string
	for _, a := range areas {
		peers = append(peers, a.Peers...)
		for _, tool := range a.Tools {
			if _, err := exec.LookPath(tool); err != nil {
				return fmt.Errorf("area %s: %w: run hack/deps.sh bench", a.Name, err)
			}
		}
	}
	dir, versions, err := peer.Build(ctx, peers, func(name string) { fmt.Fprintln(os.Stderr, "build", name, "(once, some minutes)") })
	if err != nil {
		return err
	}
	h.peers = dir
	for name, version := range versions {
		h.result.Machine.Programs[name] = version
	}
	if err := h.lock(); err != nil {
		return err
	}
	return netlab.Down(h.lab)
}

// lock keeps a second run from removing this one's nodes. It ends with the process.
func (h *harness) lock() error {
	file := filepath.Join(filepath.Dir(h.peers), h.lab+".lock")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return fmt.Errorf("another run uses the lab %s: wait for its end, or name another with -lab", h.lab)
	}
	h.locked = f // or the garbage collector would close it
	return nil
}

// area makes all turns of an area. A turn that fails is noted and the others go on.
func (h *harness) area(ctx context.Context, a *area.Area, r *result.Area) error {
	turns := slices.DeleteFunc(a.Turns(h.options), func(t area.Turn) bool {
		return !strings.Contains(t.Who, h.who) || h.options.Size != 0 && t.Size != h.options.Size
	})
	began := time.Now()
	var failed []error
	for i, t := range turns {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(failed, fmt.Errorf("%s: interrupted after %d of %d turns", a.Name, i, len(turns)))...)
		}
		busy, load := result.Busy(quiet), result.Load()
		fmt.Fprintf(os.Stderr, "%s %d/%d %s (%.0f s so far, machine %.0f %% busy, load %s)\n", a.Name, i+1, len(turns), t, time.Since(began).Seconds(), 100*busy, load)
		begin := time.Now()
		t.Profile = h.options.Profile
		if err := h.turn(ctx, a, r, t); err != nil {
			err = fmt.Errorf("%s, %s: %w", a.Name, t, err)
			fmt.Fprintln(os.Stderr, err)
			first, _, _ := strings.Cut(err.Error(), "\n")
			r.Problems = append(r.Problems, first)
			failed = append(failed, err)
		}
		r.Rounds = append(r.Rounds, result.Round{Number: t.Round, Who: t.Who, Load: load, Busy: busy, Seconds: time.Since(begin).Seconds()})
	}
	if len(failed) > 0 {
		return fmt.Errorf("%s: %d of %d turns failed", a.Name, len(failed), len(turns))
	}
	return nil
}

// turn makes three fresh nodes, measures on the first, and removes them.
func (h *harness) turn(ctx context.Context, a *area.Area, r *result.Area, t area.Turn) (err error) {
	ctx, cancel := context.WithTimeout(ctx, turnLimit+t.Long)
	defer cancel()
	l, err := netlab.Up(netlab.Options{ID: h.lab, Nodes: 3, Bound: true})
	if err != nil {
		return err
	}
	favored, _ := cgroup.DynamicFavored()
	defer func() {
		err = errors.Join(err, netlab.Down(h.lab))
		if !favored { // nodelet set it, for the whole machine: nobody else is to be measured with it
			err = errors.Join(err, cgroup.UnfavorDynamic())
		}
	}()
	node := &l.Nodes[0]
	var others []*os.File // file descriptors area.FarFD and area.BareFD
	for _, n := range l.Nodes[1:] {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.PID))
		if err != nil {
			return fmt.Errorf("open the network of %s: %w", n.Name, err)
		}
		defer f.Close()
		others = append(others, f)
	}
	order, err := json.Marshal(order{Area: a.Name, Turn: t, Node: &area.Node{
		Bin: h.bin, Peers: h.peers, Dir: filepath.Join(node.Dir, "bench"), Run: "/run/bench", Cgroup: node.Cgroup,
	}})
	if err != nil {
		return fmt.Errorf("describe the turn: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find own program: %w", err)
	}
	cmd := node.Command(ctx, self, insideCommand, string(order))
	cmd.ExtraFiles = others
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("listen to the turn: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the turn: %w", err)
	}
	err = collect(bufio.NewScanner(out), r, t)
	if waitErr := cmd.Wait(); waitErr != nil {
		err = errors.Join(err, fmt.Errorf("%w: %s", waitErr, said.String()))
	}
	return err
}

// collect takes the samples of a turn until it ends.
func collect(in *bufio.Scanner, r *result.Area, t area.Turn) error {
	in.Buffer(nil, 16<<20)
	var errs []error
	for in.Scan() {
		var s area.Sample
		if err := json.Unmarshal(in.Bytes(), &s); err != nil {
			errs = append(errs, fmt.Errorf("read a sample: %w: %s", err, in.Text()))
			continue
		}
		if s.Note != "" {
			fmt.Fprintln(os.Stderr, "   ", s.Note)
			continue
		}
		errs = append(errs, r.Add(s.Figure, s.Who, t.Round, s.Values...))
	}
	return errors.Join(append(errs, in.Err())...)
}
