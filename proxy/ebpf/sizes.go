package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// The sizes that a map may be given. The most is about 7 GB of slots.
const (
	leastMapSize = 16
	mostMapSize  = 1 << 26
)

// sized are the maps whose size can be set, and those that follow them.
var sized = map[string][]string{
	"frontends": nil, "ports": {"counters"}, "slots": nil, "members": nil, "ranges": nil, "locals": nil, "devices": nil,
	"clients": nil, "flows": nil, "fragments": nil, "datagrams": nil,
}

// CheckMapSizes tells whether Config.MapSizes can be: known maps, and sizes
// that a kernel takes.
func CheckMapSizes(want map[string]int) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, known := sized[name]; !known {
			errs = append(errs, fmt.Errorf("there is no eBPF map %q (known: %s)", name, strings.Join(slices.Sorted(maps.Keys(sized)), ", ")))
			continue
		}
		if n := want[name]; n < leastMapSize || n > mostMapSize {
			errs = append(errs, fmt.Errorf("eBPF map %s cannot have room for %d elements: %d to %d", name, n, leastMapSize, mostMapSize))
		}
	}
	return errors.Join(errs...)
}

// resize gives the maps the sizes that are asked for.
func resize(spec *ebpf.CollectionSpec, want map[string]int) error {
	if err := CheckMapSizes(want); err != nil {
		return err
	}
	for name, n := range want {
		for _, m := range append([]string{name}, sized[name]...) {
			spec.Maps[m].MaxEntries = uint32(n)
		}
	}
	return nil
}
