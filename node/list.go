package node

import (
	"errors"
	"fmt"
	"strings"

	"nodelet/internal/control"
	"nodelet/internal/model"
	"nodelet/proxy/lb"
)

var errNoProxy = errors.New("the service proxy has not programmed anything yet, or this daemon runs without it")

// views gives what the proxy has, of services whose key contains the filter.
func (n *Node) views(filter string) ([]lb.View, error) {
	if n.proxy == nil || n.proxy.State() == nil {
		return nil, errNoProxy
	}
	var out []lb.View
	for _, v := range n.proxy.Describe() {
		if strings.Contains(v.Service, filter) {
			out = append(out, v)
		}
	}
	return out, nil
}

func (n *Node) listServices(filter string) ([]control.Service, error) {
	views, err := n.views(filter)
	out := []control.Service{}
	for _, v := range views {
		if v.Skipped != "" {
			out = append(out, control.Service{Service: v.Service, Kind: "not proxied", Notes: v.Skipped})
			continue
		}
		s := control.Service{Service: v.Service, Port: v.Port + "/" + v.Protocol, Endpoints: used(v), Notes: notes(v)}
		if v.ClusterIP.IsValid() {
			s.Kind, s.Frontend = "ClusterIP", v.ClusterIP.String()
			out = append(out, s)
		}
		for _, f := range v.Frontends {
			s.Kind, s.Frontend, _ = strings.Cut(f, " ")
			out = append(out, s)
		}
	}
	return out, err
}

func used(v lb.View) int {
	n := 0
	for _, e := range v.Endpoints {
		if e.Cluster || e.Local {
			n++
		}
	}
	return n
}

func notes(v lb.View) string {
	var out []string
	if v.AffinitySeconds > 0 {
		out = append(out, fmt.Sprintf("affinity ClientIP %d s", v.AffinitySeconds))
	}
	if v.Algorithm != "" {
		out = append(out, v.Algorithm+" (mode ebpf)")
	}
	if v.BadAlgorithm != "" {
		out = append(out, fmt.Sprintf("annotation %s: %q is neither %s nor %s", model.AlgorithmAnnotation, v.BadAlgorithm, model.AlgorithmRandom, model.AlgorithmMaglev))
	}
	if v.InternalPolicy == "Local" {
		out = append(out, "internal traffic policy Local")
	}
	if v.ExternalPolicy == "Local" {
		out = append(out, "external traffic policy Local")
	}
	for _, a := range v.Outside {
		out = append(out, "external IP "+a.String()+" is outside of --proxy-external-ip-ranges: not served")
	}
	if len(v.Disputed) > 0 {
		out = append(out, "another Service has "+strings.Join(v.Disputed, ", "))
	}
	if !v.Usable {
		out = append(out, "no endpoint can be used: connections are refused")
	}
	return strings.Join(out, "; ")
}

func (n *Node) listEndpoints(filter string) ([]control.Endpoint, error) {
	views, err := n.views(filter)
	out := []control.Endpoint{}
	for _, v := range views {
		if len(v.Endpoints) == 0 {
			out = append(out, control.Endpoint{Service: v.Service, Port: v.Port, Endpoint: "none", Reason: whyNone(v)})
		}
		for _, e := range v.Endpoints {
			out = append(out, control.Endpoint{
				Service: v.Service, Port: v.Port, Endpoint: e.Address.String(), Used: e.Cluster || e.Local,
				Reason: reason(e), Pod: e.Pod, Node: e.Node,
			})
		}
	}
	return out, err
}

// whyNone says why a Service has no endpoints.
func whyNone(v lb.View) string {
	if v.Skipped != "" {
		return v.Skipped
	}
	return "no EndpointSlice names one: is there a pod with the labels of the Service's selector, and has it a port like the Service's targetPort?"
}

// reason says why an endpoint is in use, or why it is not.
func reason(e lb.EndpointView) string {
	switch {
	case e.Cluster:
		return e.State
	case e.Local:
		return e.State + ", local traffic only"
	case e.WhyCluster != "":
		return e.WhyCluster
	}
	return e.State
}
