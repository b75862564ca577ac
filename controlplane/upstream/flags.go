package upstream

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
)

// Parse sets a component's options from flags written as upstream's own command
// takes them.
func Parse(component string, sets cliflag.NamedFlagSets, args []string) error {
	all := pflag.NewFlagSet(component, pflag.ContinueOnError)
	all.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
	all.Usage = func() {}
	for _, s := range sets.FlagSets {
		all.AddFlagSet(s)
	}
	if err := all.Parse(args); err != nil {
		return fmt.Errorf("read %s flags: %w", component, err)
	}
	if rest := all.Args(); len(rest) > 0 {
		return fmt.Errorf("read %s flags: %q is not a flag (write --name=value)", component, strings.Join(rest, " "))
	}
	return nil
}
