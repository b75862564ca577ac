package explain

import (
	"fmt"
	"strings"

	"nodelet/internal/nft/sim"
	"nodelet/proxy/eval"
	"nodelet/proxy/lb"
)

// State is the verdict in one word.
type State string

// The states. Healthy: all that this node can see is as it must be.
const (
	StateHealthy State = "healthy"
	StateBroken  State = "broken"
	StateUnknown State = "cannot tell"
)

// Answer is what people and programs get.
type Answer struct {
	APIVersion string `json:"apiVersion"` // nodelet.dev/v1
	Kind       string `json:"kind"`       // Explanation
	Question   string `json:"question"`
	Packet     string `json:"packet"`
	// Meaning, Predict and Actual are lines for people; Service, Prediction and
	// Kernel the same for programs.
	Meaning  []string   `json:"meaning"`
	Predict  []string   `json:"predict"`
	Actual   []string   `json:"actual"`
	Services []lb.View  `json:"services,omitempty"`
	Kernel   *lb.Kernel `json:"kernel,omitempty"`
	Paths    []Path     `json:"paths,omitempty"`
	Verdict  Verdict    `json:"verdict"`
}

// Verdict is the judgement: the first cause, then what else was found.
type Verdict struct {
	State State     `json:"state"`
	Cause string    `json:"cause"`
	Mend  string    `json:"mend,omitempty"`
	Also  []Finding `json:"also,omitempty"`
}

// Explain makes the answer.
func Explain(f *Facts) Answer {
	a := Answer{
		APIVersion: "nodelet.dev/v1", Kind: "Explanation", Question: f.Query.Text, Packet: f.packetLine(),
		Services: f.Views, Kernel: f.Kernel, Paths: f.Paths,
		Meaning: f.meaningLines(), Predict: f.predictLines(), Actual: f.actualLines(),
	}
	a.Verdict = f.verdict(Judge(f))
	return a
}

func (f *Facts) verdict(found []Finding) Verdict {
	first := -1
	for _, level := range []Level{Broken, Unknown} {
		for i, x := range found {
			if first < 0 && x.Level == level {
				first = i
			}
		}
	}
	if first < 0 {
		return Verdict{State: StateHealthy, Cause: f.healthy(), Also: found}
	}
	v := Verdict{State: StateBroken, Cause: found[first].Cause, Mend: found[first].Mend}
	if found[first].Level == Unknown {
		v.State = StateUnknown
	}
	for i, x := range found {
		if i != first {
			v.Also = append(v.Also, x)
		}
	}
	return v
}

func (f *Facts) healthy() string {
	v := f.Verdict
	if v.Outcome != eval.DNAT {
		return fmt.Sprintf("packets from %s reach %s as they are; nothing on this node is in their way", f.From.Name, f.Packet.Dst)
	}
	n := "1 endpoint"
	if len(v.Endpoints) != 1 {
		n = fmt.Sprintf("%d endpoints", len(v.Endpoints))
	}
	return fmt.Sprintf("packets from %s reach %s of Service %s; the kernel does what the Service says", f.From.Name, n, v.Target.Service)
}

func (f *Facts) packetLine() string {
	if !f.From.Addr.IsValid() || !f.To.Addr.IsValid() {
		return f.Query.Text
	}
	s := fmt.Sprintf("%s %s -> %s, from %s", strings.ToLower(f.Packet.Proto.String()), f.From.Addr, f.Packet.Dst, f.From.Name)
	if f.Source != nil && f.Source.Name != "" {
		s += ", enters this node by " + f.Source.Name
	} else if f.Device != "" {
		s += ", enters this node by " + f.Device
	}
	return s
}

func (f *Facts) meaningLines() (out []string) {
	for _, v := range f.Views {
		if v.Skipped != "" {
			out = append(out, fmt.Sprintf("Service %s is not served by this proxy: %s", v.Service, v.Skipped))
			continue
		}
		if t := f.Verdict.Target; t.Port != nil && (v.ClusterIP != t.ClusterIP || v.Protocol != t.Proto.String()) && t.Kind != lb.AnyPort {
			continue
		}
		out = append(out, serviceLine(v))
		for _, e := range v.Endpoints {
			out = append(out, "  "+endpointLine(e))
		}
		if len(v.Endpoints) == 0 {
			out = append(out, "  no endpoints")
		}
	}
	if f.To.Pod != nil {
		out = append(out, fmt.Sprintf("%s is %s on node %s", f.To.Addr, f.To.Name, f.To.Node))
	}
	if len(out) == 0 {
		out = []string{"no Service is concerned"}
	}
	return append(out, fmt.Sprintf("revision %d, in the kernel %d", f.Revision, f.Applied))
}

func serviceLine(v lb.View) string {
	used := 0
	for _, e := range v.Endpoints {
		if e.Cluster || e.Local {
			used++
		}
	}
	s := fmt.Sprintf("Service %s port %q %s/%s, internalTrafficPolicy %s", v.Service, v.Port, v.ClusterIP, v.Protocol, v.InternalPolicy)
	if v.ExternalPolicy != "" {
		s += ", externalTrafficPolicy " + v.ExternalPolicy
	}
	if v.AffinitySeconds > 0 {
		s += fmt.Sprintf(", affinity ClientIP %d s", v.AffinitySeconds)
	}
	for _, x := range v.Frontends {
		s += ", " + x
	}
	return s + fmt.Sprintf(": %d of %d endpoints in use", used, len(v.Endpoints))
}

func endpointLine(e lb.EndpointView) string {
	s := fmt.Sprintf("%s %s", e.Address, e.State)
	if e.Pod != "" {
		s += " pod " + e.Pod
	}
	if e.Node != "" {
		s += " on " + e.Node
	}
	switch {
	case !e.Cluster && !e.Local && e.WhyCluster != "":
		s += " OUT: " + e.WhyCluster
	case !e.Cluster && !e.Local && e.WhyLocal != "":
		s += " OUT: " + e.WhyLocal
	case !e.Cluster:
		s += " (for traffic that must stay on this node)"
	}
	return s
}

func (f *Facts) predictLines() []string {
	if f.Problem != nil {
		return []string{"nothing: there is no such packet"}
	}
	if !f.Proxied {
		return []string{"nothing: this daemon runs without the service proxy"}
	}
	out := append([]string{}, f.Trace...)
	v := f.Verdict
	for i, e := range v.Endpoints {
		s := fmt.Sprintf("-> %s %.1f %%", e, 100*v.Chance())
		if v.Masquerade[i] {
			s += " masqueraded"
		}
		out = append(out, s)
	}
	return out
}

func (f *Facts) actualLines() (out []string) {
	if k := f.Kernel; k != nil {
		line := fmt.Sprintf("%s: as wanted", k.Backend)
		if len(k.Differences) > 0 {
			line = fmt.Sprintf("%s: NOT AS WANTED", k.Backend)
		}
		if k.LastChange != "" {
			line += ", rules last changed in " + k.LastChange
		}
		out = append(out, line)
		for _, h := range k.Holds {
			out = append(out, "  "+h)
		}
		for _, d := range k.Differences {
			out = append(out, "  !! "+d.String())
		}
		if k.Elsewhere > 0 {
			out = append(out, fmt.Sprintf("  !! and %d differences that concern other Services", k.Elsewhere))
		}
	}
	for _, w := range f.Ways {
		out = append(out, "rules: "+wayLine(w))
	}
	for i := range f.Paths {
		out = append(out, pathLine(&f.Paths[i]))
	}
	for _, fl := range f.Flows {
		by := "conntrack"
		if fl.Own {
			by = "map flows"
		}
		out = append(out, fmt.Sprintf("%s: %s -> %s sent to %s", by, fl.Src, fl.Dst, fl.To))
	}
	for _, l := range f.Listeners {
		out = append(out, "socket: a process of this node listens on "+l.String())
	}
	for _, u := range f.Unread {
		out = append(out, "not read: "+u)
	}
	return out
}

func wayLine(w sim.Outcome) string {
	s := fmt.Sprintf("%.1f %% %s", 100*w.Weight, w.End)
	if w.Translated {
		s += ", translated to " + w.Dst.String()
	} else {
		s += ", not translated"
	}
	if w.Masqueraded {
		s += ", masqueraded"
	}
	if w.Untracked {
		s += ", not tracked"
	}
	if w.By != "" {
		s += ", by " + w.By
	}
	if len(w.Unknown) > 0 {
		s += fmt.Sprintf(", unless %s says otherwise (not known)", strings.Join(w.Unknown, " or "))
	}
	return s
}

func pathLine(p *Path) string {
	s := "path to " + p.To.String()
	if p.Name != "" {
		s += " (" + p.Name + ")"
	}
	if p.Route != "" {
		s += ": " + p.Route
	}
	if p.Obstacle != NoObstacle {
		s += fmt.Sprintf(" !! %s %s", p.Obstacle, p.Detail)
	}
	if p.Pod != nil && p.Pod.Found {
		s += fmt.Sprintf(", link %s up=%t neighbour %s %s", p.Pod.Name, p.Pod.Up, p.Pod.MAC, p.Pod.Neighbour)
	}
	if p.BadHop != "" {
		s += fmt.Sprintf(" !! next hop %s %s", p.NextHop, p.BadHop)
	}
	if p.Back != NoObstacle {
		s += fmt.Sprintf(" !! way back: %s %s", p.Back, p.BackDetail)
	}
	return s + ", listening: " + string(p.Listening)
}

// String is the answer for people.
func (a Answer) String() string {
	var b strings.Builder
	section := func(name string, lines []string) {
		for _, l := range lines {
			fmt.Fprintf(&b, "%-9s %s\n", name, l)
			name = ""
		}
	}
	section("packet", []string{a.Packet})
	section("MEANING", a.Meaning)
	section("PREDICT", a.Predict)
	section("ACTUAL", a.Actual)
	verdict := strings.ToUpper(string(a.Verdict.State)) + ": " + sentence(a.Verdict.Cause)
	if a.Verdict.Mend != "" {
		verdict += " To mend: " + sentence(a.Verdict.Mend)
	}
	section("VERDICT", []string{verdict})
	for _, x := range a.Verdict.Also {
		section("", []string{"also " + x.String()})
	}
	return b.String()
}

// sentence ends what does not end by itself.
func sentence(s string) string {
	if strings.HasSuffix(s, "?") {
		return s
	}
	return s + "."
}
