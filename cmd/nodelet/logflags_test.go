package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestLogFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                           `level=INFO msg=b`,
		"--log-level debug":          `level=DEBUG msg=a`,
		"-v 4":                       `level=DEBUG msg=a`,
		"--v=2":                      `level=INFO msg=b`,
		"--logging-format=json -v=5": `"level":"DEBUG","msg":"a"}`,
		"--log-level loud":           `error invalid argument "loud" for "--log-level" flag: "loud": must be debug, info, warn or error`,
		"--logging-format yaml":      `error --logging-format "yaml": must be text or json`,
		"--v much":                   `error invalid argument "much" for "-v, --v" flag: "much": must be a number`,
	} {
		var f logFlags
		fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
		f.add(fs)
		var out bytes.Buffer
		err := fs.Parse(strings.Fields(args))
		if err == nil {
			log, err2 := f.logger(&out)
			if err = err2; err == nil {
				log.Debug("a")
				log.Info("b")
			}
		}
		got, _, _ := strings.Cut(out.String(), "\n")
		if err != nil {
			got = "error " + err.Error()
		}
		if !strings.HasSuffix(got, want) {
			t.Errorf("%s: logs %q, want %q", args, got, want)
		}
	}
}
