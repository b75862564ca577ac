package exclusive

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"nodelet/agent/exclusive/alignplan"
	"nodelet/agent/exclusive/cpuplan"
)

// ReadTopology reads where the CPUs of the machine sit; sys is /sys.
func ReadTopology(sys string) (cpuplan.Topology, error) {
	dir := filepath.Join(sys, "devices/system/cpu")
	online, err := list(filepath.Join(dir, "online"))
	if err != nil {
		return nil, fmt.Errorf("read which CPUs are online: %w", err)
	}
	nodes := map[int]int{}
	dirs, _ := filepath.Glob(filepath.Join(sys, "devices/system/node/node[0-9]*")) // the pattern is well-formed
	for _, d := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(d), "node"))
		cpus, err2 := list(filepath.Join(d, "cpulist"))
		if err != nil || err2 != nil {
			continue
		}
		for _, cpu := range cpus {
			nodes[cpu] = n
		}
	}
	var t cpuplan.Topology
	cores := map[[2]int]int{}
	for _, cpu := range online {
		at := filepath.Join(dir, fmt.Sprintf("cpu%d", cpu), "topology")
		socket, err := number(filepath.Join(at, "physical_package_id"))
		if err != nil {
			return nil, fmt.Errorf("read the socket of CPU %d: %w", cpu, err)
		}
		core, err := number(filepath.Join(at, "core_id"))
		if err != nil {
			return nil, fmt.Errorf("read the core of CPU %d: %w", cpu, err)
		}
		// A core's number is its own only within its socket.
		key := [2]int{socket, core}
		if _, ok := cores[key]; !ok {
			cores[key] = len(cores)
		}
		t = append(t, cpuplan.CPU{ID: cpu, Core: cores[key], Cache: lastCache(filepath.Join(dir, fmt.Sprintf("cpu%d", cpu)), socket), Socket: socket, NUMA: nodes[cpu]})
	}
	return t, nil
}

// ReadDistances reads how far the machine's NUMA nodes are from one another; sys is /sys.
func ReadDistances(sys string) (alignplan.Distances, error) {
	dir := filepath.Join(sys, "devices/system/node")
	online, err := list(filepath.Join(dir, "online"))
	if err != nil {
		return nil, fmt.Errorf("read which NUMA nodes are online: %w", err)
	}
	out := alignplan.Distances{}
	for _, from := range online {
		path := filepath.Join(dir, fmt.Sprintf("node%d", from), "distance")
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read distances of NUMA node %d: %w", from, err)
		}
		// One for each node that is online, in their order.
		row := strings.Fields(string(text))
		if len(row) != len(online) {
			return nil, fmt.Errorf("read distances of NUMA node %d: %s has %d, %d nodes are online", from, path, len(row), len(online))
		}
		for i, to := range online {
			if out[[2]int{from, to}], err = strconv.Atoi(row[i]); err != nil {
				return nil, fmt.Errorf("read distances of NUMA node %d: %w", from, err)
			}
		}
	}
	return out, nil
}

// lastCache names the last level of caches by the first CPU that shares it; where the machine does not
// tell, the socket stands for it.
func lastCache(cpu string, socket int) int {
	found, level := -1-socket, 2                                         // below the third level a cache is a core's own
	indices, _ := filepath.Glob(filepath.Join(cpu, "cache/index[0-9]*")) // the pattern is well-formed
	for _, index := range indices {
		l, err := number(filepath.Join(index, "level"))
		shared, err2 := list(filepath.Join(index, "shared_cpu_list"))
		if err == nil && err2 == nil && l > level && len(shared) > 0 {
			found, level = shared[0], l
		}
	}
	return found
}

func list(path string) (cpuplan.Set, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return cpuplan.Parse(string(text))
}

// number reads a small file; -1, which some machines say for what they do not know, is 0.
func number(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return max(n, 0), err
}
