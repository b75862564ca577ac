package zpages

import "github.com/spf13/pflag"

// Classified is the annotation of flags whose value is not to be shown, as on upstream.
const Classified = "classified"

// Flags gives the values that the flags have now, by their names.
func Flags(fs *pflag.FlagSet) map[string]string {
	out := map[string]string{}
	fs.VisitAll(func(f *pflag.Flag) {
		value := f.Value.String()
		if len(f.Annotations[Classified]) > 0 {
			value = "CLASSIFIED"
		}
		out[f.Name] = value
	})
	return out
}
