package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"nodelet/bench/area"
	"nodelet/bench/lab"
)

// profiledFor is the part of a crowd's start that the profiles of the agent cover.
const profiledFor = 3 * time.Second

// spending is what a crowd has cost so far, by program and by request to the API server.
type spending struct {
	at       time.Time
	all      time.Duration            // of everything on the node
	own      map[string]time.Duration // a program's own, without those it ran
	requests map[string]float64
}

// spent reads it.
func (m *turn) spent(ctx context.Context) (spending, error) {
	s := spending{at: time.Now(), all: lab.AllCPU(), own: map[string]time.Duration{}}
	pids := map[string]int{"bench": os.Getpid()}
	for _, p := range m.stack.Processes() {
		pids[p.Name] = p.PID()
	}
	for name, pid := range pids {
		cpu, err := lab.OwnCPU(pid)
		if err != nil {
			return s, err
		}
		s.own[name] = cpu
	}
	if m.stack.API == nil {
		return s, nil
	}
	text, err := m.stack.API.Text(ctx, "/metrics")
	s.requests = counted(text, "apiserver_request_total")
	return s, err
}

// counted sums a counter over all but what names a request.
func counted(metrics, name string) map[string]float64 {
	sums := map[string]float64{}
	for line := range strings.Lines(metrics) {
		labels, found := strings.CutPrefix(line, name+"{")
		labels, value, closed := strings.Cut(labels, "} ")
		if !found || !closed {
			continue
		}
		var what []string
		for _, label := range []string{"verb", "resource", "subresource", "code"} {
			_, rest, _ := strings.Cut(","+labels, ","+label+`="`)
			v, _, _ := strings.Cut(rest, `"`)
			what = append(what, v)
		}
		var n float64
		if _, err := fmt.Sscan(value, &n); err == nil {
			sums[strings.Join(what, " ")] += n
		}
	}
	return sums
}

// observed does something that takes at least that long, and keeps in the directory of profiles, if there
// is one, what it has cost.
func (m *turn) observed(ctx context.Context, name string, least time.Duration, do func() error) error {
	if m.Profile == "" {
		return do()
	}
	file := filepath.Join(m.Profile, strings.ReplaceAll(m.Who, " ", "-")+"-"+name)
	before, err := m.spent(ctx)
	if err != nil {
		return err
	}
	profiled := make(chan error, 1)
	go func() { profiled <- m.profile(ctx, file, least) }()
	if err := do(); err != nil {
		return err
	}
	after, err := m.spent(ctx)
	if err != nil {
		return errors.Join(err, <-profiled)
	}
	out, err := os.Create(file + ".txt")
	if err != nil {
		return errors.Join(fmt.Errorf("keep profile: %w", err), <-profiled)
	}
	after.print(out, before)
	return errors.Join(out.Close(), <-profiled)
}

// profile keeps what our agent's processor time goes to, and what it allocates.
func (m *turn) profile(ctx context.Context, file string, over time.Duration) error {
	if m.Who != external && m.Who != embedded {
		return nil
	}
	var both errgroup.Group
	for _, kind := range []string{"profile", "allocs"} {
		both.Go(func() error {
			text, err := m.stack.API.Text(ctx, fmt.Sprintf("/api/v1/nodes/%s/proxy/debug/pprof/%s?seconds=%.0f", area.NodeName, kind, over.Seconds()))
			if err != nil {
				return fmt.Errorf("read profile: %w", err)
			}
			return os.WriteFile(file+"-"+kind+".pprof", []byte(text), 0o644)
		})
	}
	return both.Wait()
}

// print writes what came since before.
func (s spending) print(w io.Writer, before spending) {
	took, rest := s.at.Sub(before.at), s.all-before.all
	fmt.Fprintf(w, "%8.2f s\n%8.2f s of processors, of which\n", took.Seconds(), rest.Seconds())
	for _, name := range slices.Sorted(maps.Keys(s.own)) {
		own := s.own[name] - before.own[name]
		rest -= own
		fmt.Fprintf(w, "%8.2f s %s\n", own.Seconds(), name)
	}
	fmt.Fprintf(w, "%8.2f s everything else: shims, the OCI runtime, network plugins, pods\n", rest.Seconds())
	for _, what := range slices.Sorted(maps.Keys(s.requests)) {
		if n := s.requests[what] - before.requests[what]; n > 0 && !strings.HasPrefix(what, http.MethodGet) {
			fmt.Fprintf(w, "%8.0f %s\n", n, what)
		}
	}
}
