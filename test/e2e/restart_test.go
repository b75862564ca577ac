package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kills is how often something is killed in TestKillAtAnyMoment.
const kills = 8

// TestKillAtAnyMoment kills the daemon, the control plane, or both, at random
// moments, while pods run and a client fetches through a Service: containers
// go on, restart counts stay, Ready never flips, no request is lost.
func TestKillAtAnyMoment(t *testing.T) {
	needRoot(t)
	p := newPlace(t)
	mustRun(t, p.up())
	mustRun(t, p.command("images", "import", filepath.Join(p.bin, "images/hello.tar")))
	kubectl(t, p, "apply", "-f", "../../examples/hello/hello.yaml")
	kubectl(t, p, "rollout", "status", "deployment/hello", "--timeout=90s")
	before := podStates(t, p)
	if len(before) != 2 {
		t.Fatalf("pods: %v", before)
	}
	stopClient := fetchAllTheTime(t, "http://"+nodeIP+":30080/")
	watch := watchPods(t, p)

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		what := []string{"nodelet.pid", "controlplane.pid", "both"}[random.IntN(3)]
		pause := time.Duration(random.IntN(1500)) * time.Millisecond
		t.Logf("kill %d: %s after %s", i, what, pause)
		time.Sleep(pause) // the moment is what is being tried
		p.kill(t, what)
		if what != "controlplane.pid" {
			mustRun(t, p.up())
		}
	}
	// The world still turns: a change made after the last kill is carried out.
	waitAPI(t, p)
	kubectl(t, p, "scale", "deployment/hello", "--replicas=3")
	kubectl(t, p, "rollout", "status", "deployment/hello", "--timeout=90s")
	if requests, lost := stopClient(); requests == 0 || len(lost) > 0 {
		t.Errorf("%d requests, lost: %v", requests, lost)
	}
	flips := watch()
	for uid, was := range before {
		is, ok := podStates(t, p)[uid]
		if !ok || is != was {
			t.Errorf("pod %s was %+v, is %+v (there: %t)", uid, was, is, ok)
		}
		for _, f := range flips {
			if strings.HasPrefix(f, uid) {
				t.Errorf("Ready flipped: %s", f)
			}
		}
	}
}

func (p *place) up() *exec.Cmd {
	return exec.Command(filepath.Join(p.bin, "nodelet"), append([]string{"up"}, p.upFlags()...)...)
}

// kill sends SIGKILL to who a pid file names, or to both daemon and control plane.
func (p *place) kill(t *testing.T, what string) {
	t.Helper()
	files := []string{what}
	if what == "both" {
		files = []string{"nodelet.pid", "controlplane.pid"}
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(p.run, f))
		if err != nil {
			t.Logf("nobody to kill: %v", err) // it was killed a moment ago and is being started again
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || pid < 2 {
			t.Fatalf("pid file %s: %q", f, data)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

func mustRun(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}

func kubectl(t *testing.T, p *place, args ...string) string {
	t.Helper()
	return mustRun(t, p.command(append([]string{"kubectl"}, args...)...))
}

// waitAPI waits until the API server answers again.
func waitAPI(t *testing.T, p *place) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		out, err := p.command("kubectl", "get", "--raw", "/readyz").CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the API server does not come back: %s", out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// podState is what must survive.
type podState struct {
	Container string
	Restarts  int
	Ready     bool
	IP        string
}

type podList struct {
	Items []podObject `json:"items"`
}

type podObject struct {
	Metadata struct {
		UID string `json:"uid"`
	} `json:"metadata"`
	Status struct {
		PodIP             string `json:"podIP"`
		ContainerStatuses []struct {
			ContainerID  string `json:"containerID"`
			RestartCount int    `json:"restartCount"`
			Ready        bool   `json:"ready"`
		} `json:"containerStatuses"`
	} `json:"status"`
}

func (o podObject) state() podState {
	s := podState{IP: o.Status.PodIP}
	for _, c := range o.Status.ContainerStatuses {
		s.Container, s.Restarts, s.Ready = c.ContainerID, c.RestartCount, c.Ready
	}
	return s
}

func podStates(t *testing.T, p *place) map[string]podState {
	t.Helper()
	var list podList
	if err := json.Unmarshal([]byte(kubectl(t, p, "get", "pods", "-l", "app=hello", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	states := map[string]podState{}
	for _, o := range list.Items {
		states[o.Metadata.UID] = o.state()
	}
	return states
}

// watchPods notes every state of a pod that was ready and then was not. The
// watch is renewed when the API server goes.
func watchPods(t *testing.T, p *place) (stop func() []string) {
	var mu sync.Mutex
	var flips []string
	done := make(chan struct{})
	ready := map[string]bool{}
	var cmd *exec.Cmd
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for {
			mu.Lock()
			select {
			case <-done:
				mu.Unlock()
				return
			default:
			}
			cmd = p.command("kubectl", "get", "pods", "-l", "app=hello", "-w", "-o", "json")
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			mu.Unlock()
			if err != nil {
				return
			}
			dec := json.NewDecoder(bufio.NewReader(out))
			for {
				var o podObject
				if dec.Decode(&o) != nil {
					break
				}
				s := o.state()
				if ready[o.Metadata.UID] && !s.Ready {
					mu.Lock()
					flips = append(flips, fmt.Sprintf("%s: %+v", o.Metadata.UID, s))
					mu.Unlock()
				}
				ready[o.Metadata.UID] = ready[o.Metadata.UID] || s.Ready
			}
			_ = cmd.Wait()
		}
	}()
	return func() []string {
		mu.Lock()
		close(done)
		if cmd != nil && cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
		mu.Unlock()
		<-finished
		return flips
	}
}

// fetchAllTheTime fetches a page over new connections until it is stopped.
func fetchAllTheTime(t *testing.T, url string) (stop func() (requests int, lost []string)) {
	t.Helper()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	done, finished := make(chan struct{}), make(chan struct{})
	var requests int
	var lost []string
	go func() {
		defer close(finished)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			requests++
			resp, err := client.Get(url)
			if err != nil {
				lost = append(lost, err.Error())
				continue
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
				lost = append(lost, fmt.Sprint(resp.Status, err))
			}
			_ = resp.Body.Close()
		}
	}()
	return func() (int, []string) {
		close(done)
		<-finished
		return requests, lost
	}
}
