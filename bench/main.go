package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nodelet/bench/area"
	"nodelet/bench/area/agent"
	"nodelet/bench/area/cni"
	"nodelet/bench/area/proxy"
	"nodelet/bench/area/skew"
	"nodelet/bench/area/whole"
	"nodelet/bench/dns"
	procs "nodelet/bench/lab"
	"nodelet/bench/result"
	netlab "nodelet/test/netlab/lab"
)

const usage = `usage: bench run [-only AREAS] [-runs N] [-who PART] [-size N] [-profile DIR] [-quick] [-json FILE]
       bench compare BASE [FILE]
       bench doc FILE DOCUMENT`

// areas are all that can be measured, in the order in which they are.
func areas() []*area.Area {
	return []*area.Area{proxy.Area(), dns.Area(), agent.Area(), cni.Area(), whole.Boot(), whole.Idle(), whole.API(), proxy.Scale(), agent.Full(), skew.Area()}
}

func main() {
	netlab.Hold()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	switch args[0] {
	case "run":
		return run(ctx, args[1:])
	case proxy.ClientCommand:
		return proxy.Client(os.Stdin, os.Stdout)
	case dns.EchoCommand:
		return dns.Echo()
	case insideCommand:
		return inside(ctx, args[1:])
	case "compare":
		return compare(args[1:])
	case "doc":
		if len(args) != 3 {
			return errors.New(usage)
		}
		f, err := result.Read(args[1])
		if err != nil {
			return err
		}
		return result.Markdown(args[2], f)
	default:
		return errors.New(usage)
	}
}

// usualFile is where a run goes when nobody says where.
const usualFile = "bench.json"

func compare(args []string) error {
	if len(args) == 1 {
		bin, err := procs.Bin()
		if err != nil {
			return err
		}
		args = append(args, filepath.Join(bin, usualFile))
	}
	if len(args) != 2 {
		return errors.New(usage)
	}
	base, err := result.Read(args[0])
	if err != nil {
		return err
	}
	now, err := result.Read(args[1])
	if err != nil {
		return err
	}
	result.Compare(os.Stdout, base, now)
	return nil
}

func run(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("run", flag.ContinueOnError)
	var o area.Options
	fs.IntVar(&o.Runs, "runs", 2, "rounds: everybody's turn, then everybody's again")
	fs.BoolVar(&o.Quick, "quick", false, "small sizes and few samples: shows that it works, not how well")
	fs.DurationVar(&o.Long, "long", 2*time.Minute, "for how long the area scale changes things")
	only := fs.String("only", "", "measure only these areas, separated by commas (scale, pods and skew are measured only when they are named)")
	lab := fs.String("lab", usualLab, "name of the lab; another one for a run beside a run")
	who := fs.String("who", "", "only contestants with this in their names")
	fs.IntVar(&o.Size, "size", 0, "only turns with this many objects, in areas that have sizes; in area agent only so many pods at once")
	fs.StringVar(&o.Profile, "profile", "", "directory for profiles of nodelet's processor time under load, and what else the processors do (areas proxy, agent)")
	file := fs.String("json", "", "where every single measurement goes (default: bench.json beside the programs)")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("needs root: it makes namespaces and programs the kernel; run with sudo")
	}
	if o.Profile != "" {
		dir, err := filepath.Abs(o.Profile)
		if err != nil {
			return fmt.Errorf("find directory %s: %w", o.Profile, err)
		}
		o.Profile = dir
	}
	if o.Runs < 1 {
		return errors.New("-runs must be at least 1")
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	bin, err := procs.Bin()
	if err != nil {
		return err
	}
	if *file == "" {
		*file = filepath.Join(bin, usualFile)
	}
	h := &harness{bin: bin, who: *who, lab: *lab, options: o, file: *file, result: &result.File{Machine: result.Machine(bin), Quick: o.Quick}}
	return h.run(ctx, chosen)
}

// choose picks areas by name.
func choose(only string) ([]*area.Area, error) {
	all := areas()
	if only == "" {
		return slices.DeleteFunc(all, func(a *area.Area) bool { return a.Extra }), nil
	}
	var out []*area.Area
	for name := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(all, func(a *area.Area) bool { return a.Name == strings.TrimSpace(name) })
		if i < 0 {
			var names []string
			for _, a := range all {
				names = append(names, a.Name)
			}
			return nil, fmt.Errorf("no area is called %q: there are %s", name, strings.Join(names, ", "))
		}
		out = append(out, all[i])
	}
	return out, nil
}
