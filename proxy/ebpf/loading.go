package ebpf

import (
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sync/errgroup"
)

// open makes the maps or opens those that are pinned, and loads the programs.
// It is the kernel's own work, a map or a program at a time, and nearly all
// that a node waits for that starts with few Services; so all processors do it.
func (k *kernel) open(spec *ebpf.CollectionSpec) error {
	made, err := makeMaps(spec, k.dir)
	all := &ebpf.Collection{Maps: made}
	defer func() { all.Close() }() // what was not assigned
	if err == nil {
		all.Programs, err = loadPrograms(spec, made)
	}
	if err == nil {
		err = all.Assign(&k.maps)
	}
	if err == nil {
		err = all.Assign(&k.progs)
	}
	if err != nil {
		return errors.Join(err, k.close())
	}
	return nil
}

// makeMaps makes the maps of a spec, or opens those that are pinned already.
func makeMaps(spec *ebpf.CollectionSpec, pins string) (map[string]*ebpf.Map, error) {
	var all errgroup.Group
	var mu sync.Mutex
	out := map[string]*ebpf.Map{}
	for name, m := range spec.Maps {
		if name[0] == '.' {
			continue // constants belong to the programs
		}
		all.Go(func() error {
			made, err := ebpf.NewMapWithOptions(m, ebpf.MapOptions{PinPath: pins})
			if err != nil {
				return fmt.Errorf("make map %s: %w", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = made
			return nil
		})
	}
	return out, all.Wait()
}

// loadPrograms loads the programs of a spec in three parts that take the
// verifier about as long: those of the two hooks of a device, and those of sockets.
func loadPrograms(spec *ebpf.CollectionSpec, known map[string]*ebpf.Map) (map[string]*ebpf.Program, error) {
	var all errgroup.Group
	var mu sync.Mutex
	out := map[string]*ebpf.Program{}
	for _, belongs := range []func(name string) bool{
		func(name string) bool { return name == string(ingress) },
		func(name string) bool { return name == string(egress) },
		func(name string) bool { return name != string(ingress) && name != string(egress) },
	} {
		part := spec.Copy()
		maps.DeleteFunc(part.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !belongs(name) })
		all.Go(func() error {
			c, err := ebpf.NewCollectionWithOptions(part, ebpf.CollectionOptions{MapReplacements: known})
			if err != nil {
				return err
			}
			defer c.Close()
			mu.Lock()
			defer mu.Unlock()
			for name := range part.Programs {
				out[name] = c.DetachProgram(name)
			}
			return nil
		})
	}
	return out, all.Wait()
}

// loadOver loads the programs of a spec over maps that are there, whatever their
// size. What is not among them is made.
func loadOver(spec *ebpf.CollectionSpec, known map[string]*ebpf.Map) (*ebpf.Collection, error) {
	for name, m := range known {
		if of := spec.Maps[name]; of != nil {
			of.MaxEntries = m.MaxEntries()
		}
	}
	return ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: known})
}
