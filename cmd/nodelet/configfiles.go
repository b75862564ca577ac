package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"nodelet/node"
	"nodelet/node/nodeconfig"
)

// configFiles are the configuration files of a kubelet and a kube-proxy.
type configFiles struct {
	kubelet, dropIns, proxy string
	// ignored is what is to be logged once there is a log.
	ignored []string
}

func (f *configFiles) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.kubelet, "kubelet-config", "", "file with a KubeletConfiguration; flags win over it")
	fs.StringVar(&f.dropIns, "config-dir", "", "directory of drop-ins (*.conf) to --kubelet-config")
	fs.StringVar(&f.proxy, "proxy-config", "", "file with a KubeProxyConfiguration; flags win over it")
}

// apply gives the flags that were not given on the command line the values of
// the files, and c what has no flag.
func (f *configFiles) apply(flags *pflag.FlagSet, c *node.Config) error {
	given := map[string]bool{}
	flags.Visit(func(x *pflag.Flag) { given[x.Name] = true })
	given["log-level"] = given["log-level"] || given["v"] // two names of one thing
	kubelet, err := readConfigs(f.kubelet, f.dropIns)
	if err != nil {
		return err
	}
	proxy, err := readConfigs(f.proxy, "")
	if err != nil {
		return err
	}
	// What both say, such as the log level, the kubelet's decides.
	settings, err := f.settings(nodeconfig.Proxy(), proxy)
	more, err2 := f.settings(nodeconfig.Kubelet(), kubelet)
	errs := []error{err, err2}
	for _, s := range append(settings, more...) {
		if given[s.Flag] {
			continue
		}
		if err := applyOne(s, flags, c); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s: %w", s.From, s.Field, err))
		}
	}
	return errors.Join(errs...)
}

// settings gives what the files of one kind want, and notes what is ignored.
func (f *configFiles) settings(kind nodeconfig.Kind, files []nodeconfig.File) ([]nodeconfig.Setting, error) {
	if len(files) == 0 {
		return nil, nil
	}
	doc, err := nodeconfig.Merge(kind, files)
	if err != nil {
		return nil, err
	}
	settings, ignored, err := nodeconfig.Map(doc)
	for _, i := range ignored {
		f.ignored = append(f.ignored, i.String())
	}
	return settings, err
}

func applyOne(s nodeconfig.Setting, flags *pflag.FlagSet, c *node.Config) error {
	if s.Flag == "" {
		return s.Apply(c)
	}
	x := flags.Lookup(s.Flag)
	if x == nil {
		return fmt.Errorf("this command has no flag --%s", s.Flag)
	}
	return x.Value.Set(s.Value)
}

// report logs what in the files changes nothing.
func (f *configFiles) report(log *slog.Logger) {
	for _, text := range f.ignored {
		log.Warn("configuration file: " + text)
	}
}

// readConfigs reads a file, and then all *.conf in and below a directory in the order of their paths.
func readConfigs(file, dir string) ([]nodeconfig.File, error) {
	var paths []string
	if file != "" {
		paths = append(paths, file)
	}
	if dir != "" {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".conf") {
				paths = append(paths, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read --config-dir: %w", err)
		}
	}
	var files []nodeconfig.File
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		files = append(files, nodeconfig.File{Name: path, Data: data})
	}
	return files, nil
}
