package timeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"nodelet/agent/dra/draplan"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

// Step is one thing that happened to a pod.
type Step struct {
	// Name is one of seen, admitted, rejected, claims, volumes, sandbox, network, image,
	// created, started, probe, ready, status, exited, deletion, gone.
	Name string `json:"step"`
	// Container is empty for steps of the pod as a whole.
	Container string `json:"container,omitempty"`
	// Attempt is the restart count of the container, or of the sandbox.
	Attempt uint32 `json:"attempt,omitempty"`
	Detail  string `json:"detail,omitempty"`
	// At is zero in what Steps gives where nobody knows but who looks.
	At time.Time `json:"at"`
}

// same tells whether two steps are one, whenever they were seen.
func same(a, b Step) bool {
	return a.Name == b.Name && a.Container == b.Container && a.Attempt == b.Attempt && a.Detail == b.Detail
}

// Steps gives what a snapshot shows of a pod's life so far.
func Steps(snap *store.Snapshot, uid model.UID) []Step {
	pod, ok := snap.Pods.Get(uid)
	if !ok {
		return nil
	}
	all := append(make([]Step, 0, 16), Step{Name: "seen"})
	if row, ok := snap.Allocations.Get(uid); ok {
		if row.Rejected {
			all = append(all, Step{Name: "rejected", Detail: row.Reason + ": " + row.Message})
		} else {
			all = append(all, Step{Name: "admitted"})
		}
	}
	all = claimSteps(all, snap, pod)
	all = volumeSteps(all, snap, uid)
	all = imageSteps(all, snap, pod)
	if rt, ok := snap.Runtime.Get(uid); ok {
		all = runtimeSteps(all, rt)
		all = probeSteps(all, snap, rt)
	}
	if pod.DeletionTimestamp != nil {
		all = append(all, Step{Name: "deletion", Detail: "asked for, grace " + grace(pod)})
	}
	return all
}

func grace(pod *corev1.Pod) string {
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		return fmt.Sprintf("%d s", *g)
	}
	return "unknown"
}

// claimSteps are those of ResourceClaims.
func claimSteps(all []Step, snap *store.Snapshot, pod *corev1.Pod) []Step {
	row, ok := snap.Prepared.Get(model.UID(pod.UID))
	switch {
	case !ok:
		return all
	case draplan.Ready(pod, row):
		return append(all, Step{Name: "claims", Detail: "prepared"})
	case row.Message != "":
		return append(all, Step{Name: "claims", Detail: row.Message})
	}
	return append(all, Step{Name: "claims", Detail: "a driver was asked"})
}

func volumeSteps(all []Step, snap *store.Snapshot, uid model.UID) []Step {
	v, ok := snap.Volumes.Get(uid)
	switch {
	case !ok:
		return all
	case v.State == model.VolumesReady:
		return append(all, Step{Name: "volumes", Detail: "ready"})
	case v.Message != "":
		return append(all, Step{Name: "volumes", Detail: v.State.String() + ": " + v.Message})
	}
	return all
}

func imageSteps(all []Step, snap *store.Snapshot, pod *corev1.Pod) []Step {
	var told []string
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			ref := list[i].Image
			img, ok := snap.Images.Get(model.ImageRef(ref))
			if !ok || img.State == model.ImageAbsent || slices.Contains(told, ref) {
				continue
			}
			told = append(told, ref)
			detail := img.State.String() + " " + ref
			if img.State == model.ImageFailed {
				detail += " " + img.Reason
			}
			all = append(all, Step{Name: "image", Detail: detail})
		}
	}
	return all
}

func runtimeSteps(all []Step, rt *model.PodRuntime) []Step {
	for i := range rt.Sandboxes {
		s := &rt.Sandboxes[i]
		all = append(all, Step{Name: "sandbox", Attempt: s.Attempt, At: s.Created})
		switch {
		case len(s.IPs) > 0:
			all = append(all, Step{Name: "network", Attempt: s.Attempt, Detail: addresses(s)})
		case s.HostNetwork:
			all = append(all, Step{Name: "network", Attempt: s.Attempt, Detail: "host"})
		}
	}
	for i := range rt.Containers {
		c := &rt.Containers[i]
		step := Step{Container: c.Name, Attempt: c.Attempt}
		all = append(all, at(step, "created", c.Created))
		if !c.Started.IsZero() {
			all = append(all, at(step, "started", c.Started))
		}
		if c.State == model.ContainerExited {
			step.Detail = strings.TrimSpace(fmt.Sprintf("%d %s", c.ExitCode, c.Reason))
			all = append(all, at(step, "exited", c.Finished))
		}
	}
	return all
}

func at(s Step, name string, when time.Time) Step {
	s.Name, s.At = name, when
	return s
}

func addresses(s *model.Sandbox) string {
	texts := make([]string, len(s.IPs))
	for i, ip := range s.IPs {
		texts[i] = ip.String()
	}
	return strings.Join(texts, " ")
}

func probeSteps(all []Step, snap *store.Snapshot, rt *model.PodRuntime) []Step {
	for i := range rt.Containers {
		c := &rt.Containers[i]
		for _, t := range []model.ProbeType{model.Startup, model.Liveness, model.Readiness} {
			p, ok := snap.Probes.Get(model.ProbeKey{PodUID: rt.UID, Container: c.Name, Type: t})
			if !ok || p.ContainerID != c.ID || p.Verdict == model.Pending {
				continue
			}
			all = append(all, Step{Name: "probe", Container: c.Name, Attempt: c.Attempt, Detail: t.String() + " " + p.Verdict.String(), At: p.Since})
		}
	}
	return all
}

// Status is the step of a status that the API has taken.
func Status(s *corev1.PodStatus) Step {
	detail := string(s.Phase)
	if s.Reason != "" {
		detail += " " + s.Reason
	}
	for _, c := range s.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			detail += ", ready"
		}
	}
	return Step{Name: "status", Detail: "written: " + detail}
}
