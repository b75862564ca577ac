package nodeconfig

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/node"
)

// cpuPolicy takes the name of a policy of the CPU manager.
func cpuPolicy(c *node.Config, v any) error {
	switch name := plain(v); name {
	case "none", "static":
		c.Kubelet.CPUPolicy.Static = name == "static"
		return nil
	default:
		return fmt.Errorf("%q is no policy: none or static", name)
	}
}

// cpuOptions takes the options of the static policy. One that is not known would change which CPUs
// containers get, so it is an error and not ignored.
func cpuOptions(c *node.Config, v any) error {
	options, err := decode[map[string]string](v)
	if err != nil {
		return err
	}
	o := &c.Kubelet.CPUPolicy.Options
	known := map[string]*bool{
		"full-pcpus-only": &o.WholeCores, "strict-cpu-reservation": &o.Strict, "distribute-cpus-across-numa": &o.SpreadNodes,
		"distribute-cpus-across-cores": &o.SpreadCores, "align-by-socket": &o.Sockets, "prefer-align-cpus-by-uncorecache": &o.WholeCaches,
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		to := known[name]
		if to == nil {
			return fmt.Errorf("option %q is not supported by this version: %s are", name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if *to, err = strconv.ParseBool(options[name]); err != nil {
			return fmt.Errorf("option %q is %q: true or false", name, options[name])
		}
	}
	return nil
}

// topologyPolicy takes the name of a policy of the topology manager.
func topologyPolicy(c *node.Config, v any) (err error) {
	c.Kubelet.CPUPolicy.Align, err = alignplan.Parse(plain(v))
	return err
}

// topologyScope takes whether pods are aligned as a whole.
func topologyScope(c *node.Config, v any) error {
	switch name := plain(v); name {
	case "container", "pod":
		c.Kubelet.CPUPolicy.AlignPods = name == "pod"
		return nil
	default:
		return fmt.Errorf("%q is no scope: container or pod", name)
	}
}

// topologyOptions takes which place is the better one, and options that say what is so anyway; any other would
// change which pods are taken, so it is an error and not ignored.
func topologyOptions(c *node.Config, v any) error {
	options, err := decode[map[string]string](v)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		switch {
		case name == "prefer-closest-numa-nodes":
			if c.Kubelet.CPUPolicy.AlignClosest, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("option %q: %q is neither true nor false", name, value)
			}
		case name != "max-allowable-numa-nodes" || value != strconv.Itoa(alignplan.MaxNodes):
			return fmt.Errorf("option %q with value %q is not supported by this version", name, value)
		}
	}
	return nil
}
