package podplan

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"nodelet/agent/admission"
	"nodelet/internal/golden"
	"nodelet/internal/model"
	"nodelet/internal/store"
)

var now = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// ago is a time of a case, written as the span before now; empty is never.
type ago time.Time

// UnmarshalJSON reads "10s".
func (a *ago) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil || s == "" {
		return err
	}
	d, err := time.ParseDuration(s)
	*a = ago(now.Add(-d))
	return err
}

// world is the facts section of a case.
type world struct {
	// Gone: the API has no such pod. Unsynced names tables that are not synced: pods, runtime, services, classes.
	Gone     bool
	Unsynced []string
	Node     struct {
		IPs               []netip.Addr
		RecursiveReadOnly bool
		UserNamespaces    bool
		Servers, Searches []string
		SharedCPUs        string
		Swap              Swap
		OOMGroup          bool
		HugePages         corev1.ResourceList
	}
	// Others are other pods of the node.
	Others    []corev1.Pod
	Sandboxes []struct {
		ID          string
		Attempt     uint32
		Ready       bool
		IPs         []netip.Addr
		HostNetwork bool
	}
	Containers []struct {
		ID, Name, Sandbox, State, Reason, Message string
		Attempt                                   uint32
		Created, Started, Finished                ago
		Exit                                      int32
		Level                                     string
		User                                      *model.User
		StopSignal                                string
		// Resources as the runtime tells them.
		Resources *model.Resources
		// Image it was made from; empty: the spec's.
		Image       string
		Annotations map[string]string
	}
	// Images that are not just present, by reference: "absent", "pulling" or a failure.
	Images map[string]struct {
		State, Reason, Message string
		Attempts               int
		Failed                 ago
		UID                    *int64
		Username               string
	}
	// Allocation is that the pod was taken with all it asks for, unless said otherwise.
	Allocation *struct {
		None, Rejected, Preempted bool
		Reason, Message           string
		Generation                int64
		Pod                       *corev1.ResourceRequirements
		Containers                map[string]corev1.ResourceRequirements
		Pending                   *model.PendingResize
		UserNS                    uint32
	}
	// Evicted: the pod has to go.
	Evicted *struct {
		Grace, Message string
		Pressure       bool
	}
	// Grant is what the pod has to itself.
	Grant *model.Grant
	// Prepared is what drivers have prepared for the pod's claims; Looking: nobody has looked yet.
	Prepared *model.PodDevices
	Looking  bool
	// Volumes is "ready" unless said otherwise: absent, failed, refused.
	Volumes string
	Configs []struct {
		Kind, Namespace, Name string
		Missing               bool
		Data                  map[string]string
	}
	// Classes are RuntimeClasses: handlers by name.
	Classes  map[string]string
	Services []struct {
		Namespace, Name string
		IP              netip.Addr
		Ports           []struct {
			Name string
			Port uint16
			UDP  bool
		}
	}
	Probes []struct{ Container, ID, Type, Verdict string }
	Notes  struct {
		Stopping ago
		// Cgroup is what it is to be, unless said otherwise.
		Cgroup *string
		Resize struct {
			Message    string
			At         ago
			Count      int
			Generation int64
		}
		Containers map[string]struct {
			Stopping               ago
			PreStopDone, PostStart bool
		}
		Failures map[string]struct {
			Reason, Message string
			At              ago
			Count, Reserved int
		}
	}
	Settings struct {
		NoDNS, Systemd, SeccompDefault bool
		MaxBackOff                     string
		NoCPUQuota                     bool
		CPUQuotaMillis                 int
	}
}

func TestCases(t *testing.T) {
	golden.Run(t, "testdata/*.txtar", func(c *golden.Case) {
		facts := readCase(c)
		plan := Make(facts, now)
		if again := Make(facts, now); again.String() != plan.String() {
			c.Errorf("the same facts gave another plan:\n%s\nand\n%s", plan, again)
		}
		c.Want("want", printPlan(plan))
		if c.Has("config") {
			c.Want("config", printConfig(c.T, plan))
		}
	})
}

func readCase(c *golden.Case) Facts {
	pod := &corev1.Pod{}
	pod.Name, pod.Namespace, pod.UID, pod.Generation = "p", "ns", "u1", 1
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	pod.Spec.NodeName = "node"
	must(c.T, yaml.UnmarshalStrict([]byte(c.Section("pod")), pod))
	for _, x := range containers(pod) {
		if x.Image == "" {
			x.Image = "img"
		}
	}
	var w world
	must(c.T, yaml.UnmarshalStrict([]byte(c.Section("facts")), &w))
	return w.facts(c.T, pod)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) facts(t *testing.T, pod *corev1.Pod) Facts {
	s, tables := store.New()
	w.fill(tables, pod)
	uid := model.UID(pod.UID)
	notes := Notes{Stopping: time.Time(w.Notes.Stopping), Containers: map[string]ContainerNote{}, Failures: map[string]Failure{}}
	for id, n := range w.Notes.Containers {
		notes.Containers[id] = ContainerNote{Stopping: time.Time(n.Stopping), PreStopDone: n.PreStopDone, PostStart: n.PostStart}
	}
	for name, f := range w.Notes.Failures {
		notes.Failures[name] = Failure{Reason: f.Reason, Message: f.Message, At: time.Time(f.At), Count: f.Count, Reserved: f.Reserved}
	}
	notes.Resize = Failure{Message: w.Notes.Resize.Message, At: time.Time(w.Notes.Resize.At), Count: w.Notes.Resize.Count, Generation: w.Notes.Resize.Generation}
	snap := s.Snapshot()
	row, _ := snap.Allocations.Get(uid)
	if notes.Cgroup = CgroupOf(admission.Granted(pod, row)); w.Notes.Cgroup != nil {
		notes.Cgroup = *w.Notes.Cgroup
	}
	settings := &Settings{
		NodeName: "node", RootDir: "/kubelet", PodLogDir: "/logs", ClusterDomain: "cluster.local",
		ClusterDNS: []netip.Addr{netip.MustParseAddr("10.96.0.10")}, SeccompRoot: "/seccomp",
		SystemdCgroups: w.Settings.Systemd, SeccompDefault: w.Settings.SeccompDefault,
		NoCPUQuota: w.Settings.NoCPUQuota, CPUQuotaPeriod: time.Duration(w.Settings.CPUQuotaMillis) * time.Millisecond,
	}
	if w.Settings.NoDNS {
		settings.ClusterDNS = nil
	}
	if d := w.Settings.MaxBackOff; d != "" {
		var err error
		settings.MaxBackOff, err = time.ParseDuration(d)
		must(t, err)
	}
	node := Node{
		IPs: w.Node.IPs, RuntimeName: "containerd", MemoryBytes: 8 << 30, IDsPerPod: 65536, Handlers: map[string]Handler{"": {RecursiveReadOnly: w.Node.RecursiveReadOnly, UserNamespaces: w.Node.UserNamespaces}},
		Allocatable: corev1.ResourceList{"cpu": resource.MustParse("2"), "memory": resource.MustParse("8Gi")},
		SharedCPUs:  w.Node.SharedCPUs, Swap: w.Node.Swap, OOMGroup: w.Node.OOMGroup,
		DNS: DNS{Servers: w.Node.Servers, Searches: w.Node.Searches},
	}
	maps.Copy(node.Allocatable, w.Node.HugePages)
	if len(node.IPs) == 0 {
		node.IPs = []netip.Addr{netip.MustParseAddr("192.0.2.1")}
	}
	return Facts{UID: uid, World: s.Snapshot(), Node: node, Settings: settings, Notes: notes}
}

func (w *world) fill(tables *store.Writers, pod *corev1.Pod) {
	uid := model.UID(pod.UID)
	is := func(name string) bool { return !strings.Contains(strings.Join(w.Unsynced, " "), name) }
	if !w.Gone {
		tables.Pods.Set(uid, pod)
	}
	for i := range w.Others {
		tables.Pods.Set(model.UID(w.Others[i].UID), &w.Others[i])
	}
	if is("pods") {
		tables.Pods.Commit(func(tx *store.Tx[model.UID, *corev1.Pod]) { tx.Synced() })
	}
	if w.Grant != nil {
		w.Grant.UID = uid
		tables.Grants.Set(uid, w.Grant)
	}
	if w.Prepared != nil {
		w.Prepared.UID = uid
		tables.Prepared.Set(uid, w.Prepared)
	}
	if !w.Looking {
		tables.Prepared.Commit(func(tx *store.Tx[model.UID, *model.PodDevices]) { tx.Synced() })
	}
	if rt := w.runtime(pod); len(rt.Sandboxes)+len(rt.Containers) > 0 {
		tables.Runtime.Set(uid, rt)
	}
	if is("runtime") {
		tables.Runtime.Commit(func(tx *store.Tx[model.UID, *model.PodRuntime]) { tx.Synced() })
	}
	for _, c := range w.Configs {
		key := model.ConfigKey{Key: model.Key{Namespace: c.Namespace, Name: c.Name}}
		if c.Kind == "Secret" {
			key.Kind = model.Secret
		}
		data := map[string][]byte{}
		for k, v := range c.Data {
			data[k] = []byte(v)
		}
		tables.Configs.Set(key, &model.Config{ConfigKey: key, ResourceVersion: "1", Missing: c.Missing, Data: data})
	}
	for _, s := range w.Services {
		key := model.Key{Namespace: s.Namespace, Name: s.Name}
		service := &model.Service{Key: key, ResourceVersion: "1", ClusterIPs: []netip.Addr{s.IP}}
		for _, p := range s.Ports {
			port := model.ServicePort{Name: p.Name, Port: p.Port, Protocol: model.TCP}
			if p.UDP {
				port.Protocol = model.UDP
			}
			service.Ports = append(service.Ports, port)
		}
		tables.Services.Set(key, service)
	}
	for name, handler := range w.Classes {
		tables.Classes.Set(model.Key{Name: name}, &model.RuntimeClass{Name: name, Handler: handler})
	}
	if is("classes") {
		tables.Classes.Commit(func(tx *store.Tx[model.Key, *model.RuntimeClass]) { tx.Synced() })
	}
	if is("services") {
		tables.Services.Commit(func(tx *store.Tx[model.Key, *model.Service]) { tx.Synced() })
	}
	w.fillImages(tables, pod)
	w.fillAllocation(tables, pod)
	for _, p := range w.Probes {
		key := model.ProbeKey{PodUID: uid, Container: p.Container, Type: map[string]model.ProbeType{"startup": 0, "liveness": 1, "readiness": 2}[p.Type]}
		verdict := map[string]model.Verdict{"success": model.Success, "failure": model.Failure}[p.Verdict]
		tables.Probes.Set(key, &model.Probe{ProbeKey: key, ContainerID: p.ID, Verdict: verdict})
	}
	if e := w.Evicted; e != nil {
		grace, err := time.ParseDuration(e.Grace)
		if err != nil {
			panic(err)
		}
		tables.Evictions.Set(uid, &model.Eviction{UID: uid, Grace: grace, Message: e.Message, Pressure: e.Pressure})
	}
	if w.Volumes == "absent" {
		return
	}
	volumes := &model.PodVolumes{UID: uid, State: model.VolumesReady, HostPaths: map[string]string{}}
	if w.Volumes == "failed" {
		volumes.State, volumes.Message = model.VolumesFailed, "no such configmap"
	}
	if w.Volumes == "refused" {
		volumes.State, volumes.Refused, volumes.Message = model.VolumesFailed, model.AttachLimit, "why"
	}
	for _, v := range pod.Spec.Volumes {
		volumes.HostPaths[v.Name] = "/kubelet/pods/u1/volumes/" + v.Name
	}
	tables.Volumes.Set(uid, volumes)
}

func (w *world) fillAllocation(tables *store.Writers, pod *corev1.Pod) {
	row := &model.Allocation{UID: model.UID(pod.UID), Generation: pod.Generation, Pod: pod.Spec.Resources, Containers: map[string]corev1.ResourceRequirements{}}
	for _, c := range containers(pod) {
		row.Containers[c.Name] = c.Resources
	}
	if a := w.Allocation; a != nil {
		if a.None {
			return
		}
		row.Rejected, row.Preempted, row.Reason, row.Message, row.Pending = a.Rejected, a.Preempted, a.Reason, a.Message, a.Pending
		row.UserNS = a.UserNS
		row.Generation = a.Generation
		if a.Pod != nil {
			row.Pod = a.Pod
		}
		for name, r := range a.Containers {
			row.Containers[name] = r
		}
	}
	tables.Allocations.Set(row.UID, row)
}

func (w *world) fillImages(tables *store.Writers, pod *corev1.Pod) {
	for _, c := range containers(pod) {
		ref := model.ImageRef(c.Image)
		served := map[model.ContainerKey]uint32{}
		for _, c := range containers(pod) {
			served[model.ContainerKey{PodUID: model.UID(pod.UID), Name: c.Name}] = 1000
		}
		row := &model.Image{
			Ref: ref, State: model.ImagePresent, ID: "sha256:" + c.Image, Checked: now,
			Pulls: map[string]model.Pull{"": {State: model.ImagePresent, Served: served}},
		}
		if i, ok := w.Images[c.Image]; ok {
			row.UID, row.Username = i.UID, i.Username
			pull := model.Pull{Attempts: i.Attempts, Failed: time.Time(i.Failed), Reason: i.Reason, Message: i.Message}
			switch i.State {
			case "absent":
				continue
			case "pulling":
				row.ID, row.State, pull.State = "", model.ImagePulling, model.ImagePulling
				row.Pulls = map[string]model.Pull{"": pull}
			case "failed":
				row.ID, row.State, pull.State = "", model.ImageFailed, model.ImageFailed
				row.Pulls = map[string]model.Pull{"": pull}
			}
		}
		tables.Images.Set(ref, row)
	}
}

func (w *world) runtime(pod *corev1.Pod) *model.PodRuntime {
	rt := &model.PodRuntime{UID: model.UID(pod.UID), Pod: model.Key{Namespace: "ns", Name: "p"}}
	for _, s := range w.Sandboxes {
		rt.Sandboxes = append(rt.Sandboxes, model.Sandbox{
			ID: s.ID, Attempt: s.Attempt, Ready: s.Ready, IPs: s.IPs, HostNetwork: s.HostNetwork,
		})
	}
	for _, c := range w.Containers {
		x := model.Container{
			ID: c.ID, Name: c.Name, SandboxID: c.Sandbox, Attempt: c.Attempt, ExitCode: c.Exit,
			Created: time.Time(c.Created), Started: time.Time(c.Started), Finished: time.Time(c.Finished),
			Reason: c.Reason, Message: c.Message, Image: "img", ImageRef: "sha256:img", Resources: c.Resources, User: c.User, StopSignal: c.StopSignal,
			LogPath: fmt.Sprintf("/logs/ns_p_u1/%s/%d.log", c.Name, c.Attempt), Annotations: map[string]string{},
			State: map[string]model.ContainerState{
				"created": model.ContainerCreated, "running": model.ContainerRunning, "exited": model.ContainerExited,
			}[c.State],
		}
		for k, v := range c.Annotations {
			x.Annotations[k] = v
		}
		if c.Level != "" {
			x.Annotations[AnnotationBackOff] = c.Level
		}
		for _, spec := range containers(pod) {
			if spec.Name == c.Name {
				made := *spec.Container
				if c.Image != "" {
					made.Image = c.Image
				}
				x.Annotations[AnnotationHash] = specHash(ctr{Container: &made})
			}
		}
		rt.Containers = append(rt.Containers, x)
	}
	return rt
}

func printPlan(p Plan) string {
	var b strings.Builder
	b.WriteString(p.String())
	if p.Stopping {
		fmt.Fprintf(&b, "stopping within %s\n", p.Grace)
	}
	if !p.Wake.IsZero() {
		fmt.Fprintf(&b, "wake in %s\n", p.Wake.Sub(now))
	}
	if p.Status == nil {
		b.WriteString("no status\n")
		return b.String()
	}
	printStatus(&b, p.Status)
	return b.String()
}

func printStatus(b *strings.Builder, s *corev1.PodStatus) {
	fmt.Fprintf(b, "status %s", s.Phase)
	for _, extra := range []string{s.Reason, s.Message} {
		if extra != "" {
			fmt.Fprintf(b, " %q", extra)
		}
	}
	fmt.Fprintf(b, " qos=%s host=%s pod=%s\n", s.QOSClass, s.HostIP, s.PodIPs)
	if want := []corev1.HostIP{{IP: s.HostIP}}; s.HostIP != "" && !slices.Equal(s.HostIPs, want) {
		fmt.Fprintf(b, "hosts %v\n", s.HostIPs)
	}
	for _, c := range s.Conditions {
		fmt.Fprintf(b, "  %s=%s", c.Type, c.Status)
		if c.Type == corev1.PodResizePending || c.Type == corev1.PodResizeInProgress {
			fmt.Fprintf(b, " generation %d", c.ObservedGeneration)
		}
		if c.Reason != "" {
			fmt.Fprintf(b, " %s %q", c.Reason, c.Message)
		}
		if !c.LastTransitionTime.Time.Equal(now) {
			fmt.Fprintf(b, " since %s", now.Sub(c.LastTransitionTime.Time))
		}
		b.WriteByte('\n')
	}
	for _, list := range [][]corev1.ContainerStatus{s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses} {
		for _, c := range list {
			fmt.Fprintf(b, "  %s", c.Name)
			if c.ContainerID != "" {
				fmt.Fprintf(b, " %s", c.ContainerID)
			}
			fmt.Fprintf(b, " ready=%t started=%t restarts=%d %s", c.Ready, c.Started != nil && *c.Started, c.RestartCount, printState(c.State))
			if c.Resources != nil && len(c.Resources.Requests)+len(c.Resources.Limits) > 0 {
				fmt.Fprintf(b, " has %s of %s", printResources(*c.Resources), printResources(corev1.ResourceRequirements{Requests: c.AllocatedResources}))
			}
			for _, r := range c.AllocatedResourcesStatus {
				fmt.Fprintf(b, " %s", r.Name)
				for _, d := range r.Resources {
					fmt.Fprintf(b, " %s=%s", d.ResourceID, d.Health)
				}
			}
			if c.User != nil {
				fmt.Fprintf(b, " user %+v", *c.User.Linux)
			}
			if c.StopSignal != nil {
				fmt.Fprintf(b, " signal %s", *c.StopSignal)
			}
			if c.LastTerminationState != (corev1.ContainerState{}) {
				fmt.Fprintf(b, " last %s", printState(c.LastTerminationState))
			}
			b.WriteByte('\n')
		}
	}
}

// printResources is "cpu=request/limit memory=request/limit".
func printResources(r corev1.ResourceRequirements) string {
	var all []string
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		if !request.IsZero() || !limit.IsZero() {
			all = append(all, fmt.Sprintf("%s=%s/%s", name, &request, &limit))
		}
	}
	return strings.Join(all, " ")
}

func printState(s corev1.ContainerState) string {
	switch {
	case s.Running != nil:
		return fmt.Sprintf("running %s", now.Sub(s.Running.StartedAt.Time))
	case s.Terminated != nil:
		t := s.Terminated
		text := fmt.Sprintf("terminated %d %s", t.ExitCode, t.Reason)
		if t.Message != "" {
			text += fmt.Sprintf(" %q", t.Message)
		}
		return text
	case s.Waiting != nil && s.Waiting.Message != "":
		return fmt.Sprintf("waiting %s %q", s.Waiting.Reason, s.Waiting.Message)
	case s.Waiting != nil:
		return "waiting " + s.Waiting.Reason
	}
	return "nothing"
}

// printConfig prints the requests of a plan in full.
func printConfig(t *testing.T, p Plan) string {
	var b strings.Builder
	dump := func(v any) {
		raw, err := json.Marshal(v)
		must(t, err)
		text, err := yaml.JSONToYAML(raw)
		must(t, err)
		b.Write(text)
	}
	for _, a := range p.Actions {
		switch a := a.(type) {
		case CreateSandbox:
			fmt.Fprintf(&b, "# %s\n", a)
			dump(a.Config)
		case CreateContainer:
			fmt.Fprintf(&b, "# %s\n", a)
			for _, e := range a.Config.Envs {
				fmt.Fprintf(&b, "# env %s=%s\n", e.Key, strings.ReplaceAll(string(e.Value), stand, "@"))
			}
			envs := a.Config.Envs
			a.Config.Envs = nil
			dump(a.Config)
			a.Config.Envs = envs
			if a.Files.Hosts != "" {
				fmt.Fprintf(&b, "# hosts %s fromHost=%t\n", a.Files.Hosts, a.Files.HostsFromHost)
				for line := range strings.Lines(a.Files.HostsContent) {
					b.WriteString("#   " + line)
				}
			}
			for _, f := range a.EnvFiles {
				fmt.Fprintf(&b, "# env file %s %s/%s key %s optional=%t\n", f.Name, f.Dir, f.Path, f.Key, f.Optional)
			}
			for _, s := range a.SubPaths {
				fmt.Fprintf(&b, "# subpath %d %s %s\n", s.Index, s.Volume, s.Path)
			}
		}
	}
	return b.String()
}
