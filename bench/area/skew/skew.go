package skew

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"nodelet/bench/area"
	"nodelet/bench/peer"
	"nodelet/bench/result"
	"nodelet/bench/stack"
)

// passed is the figure; all specs must pass.
const passed = "specs that passed"

// versions are those that the node must work with: one minor version before its own libraries', and after
// the suite's.
func versions() []string { return []string{"v1.35.4", peer.Kubernetes, "v1.37.0"} }

// specCount is how many there are of specs.
const specCount = 14

// specs are a pod, its volumes and tokens, probes, a Service, its name, a Job, logs and commands.
const specs = `Pods should be submitted and removed|Pods should support remote command execution|Pods should support retrieving logs|` +
	`Secrets should be consumable from pods in volume \[NodeConf|ConfigMap updates should be reflected in volume|` +
	`ServiceAccounts should mount projected service account token|Probing container should be restarted with a /healthz http|` +
	`Services should serve a basic endpoint from pods|Services should be able to change the type from ClusterIP to ExternalName|` +
	`DNS should provide DNS for services|KubeletManagedEtcHosts should test|Job should run a job to completion when tasks succeed|` +
	`InitContainer \[NodeConformance\] should invoke init containers on a RestartAlways pod|Kubectl client Guestbook|` +
	`Pod InPlace Resize Container .* 1 container.*cpu requests.*increase`

// Area is the area of versions.
func Area() *area.Area {
	a := &area.Area{
		Name: "skew", Extra: true, Peers: []string{"etcd"}, Turns: turns, Measure: measure,
		Figures: []*result.Figure{{Name: passed, More: true, Quantile: .5, Goals: map[string]result.Goal{"": {Limit: specCount}}}},
	}
	for _, v := range versions() {
		a.Contestants = append(a.Contestants, result.Contestant{Name: v, Role: result.Ours})
		for _, name := range stack.ControlPlanePrograms() {
			a.Peers = append(a.Peers, peer.At(name, v))
		}
	}
	return a
}

func turns(area.Options) (all []area.Turn) {
	for _, v := range versions() {
		all = append(all, area.Turn{Who: v})
	}
	return all
}

func measure(ctx context.Context, n *area.Node, t area.Turn) error {
	s := stack.New(n)
	defer s.Stop()
	if err := start(ctx, s, t.Who); err != nil {
		return fmt.Errorf("%w\n%s", err, s.Logs())
	}
	root := filepath.Dir(n.Bin)
	cmd := exec.CommandContext(ctx, filepath.Join(n.Peers, "..", "nodelet-conformance"), "-kubeconfig", s.Admin(), "-bin", n.Bin,
		"-cache", filepath.Join(root, ".cache", "conformance"), "-reports", filepath.Join(n.Dir, "reports"), "-procs", "4",
		"-import", filepath.Join(n.Bin, "nodelet")+" images import", "-focus", specs, "-skip", "Serial|Slow")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		n.Note("%s: %s", t.Who, lines.Text())
	}
	good, counted := count(out)
	if !counted {
		return fmt.Errorf("run the suite: %w", errors.Join(err, errors.New("it has not counted")))
	}
	n.Add(passed, t.Who, good)
	if err != nil {
		return fmt.Errorf("run the suite: %w\n%s", err, s.Logs())
	}
	return nil
}

// start brings up the control plane and the node.
func start(ctx context.Context, s *stack.Stack, version string) error {
	if err := s.Keys(ctx); err != nil {
		return err
	}
	if _, err := s.UpstreamAt(ctx, version); err != nil {
		return err
	}
	if err := s.Join(ctx); err != nil {
		return err
	}
	if _, err := s.Nodelet(ctx, "agent,proxy,dns,cni"); err != nil {
		return err
	}
	return s.Import(ctx)
}

var total = regexp.MustCompile(`(?m)^(\d+) passed, \d+ failed, \d+ skipped$`)

// count reads the last line that the runner prints.
func count(out []byte) (passed float64, ok bool) {
	m := total.FindSubmatch(out)
	if m == nil {
		return 0, false
	}
	good, err := strconv.Atoi(string(m[1]))
	return float64(good), err == nil
}
