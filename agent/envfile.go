package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/podplan"
)

// maxEnvFile bounds a file with variables, in bytes.
const maxEnvFile = 1 << 20

// fillEnv puts the values that are in files of volumes into the configuration of a container.
func fillEnv(files []podplan.EnvFile, c *runtimev1.ContainerConfig) error {
	for _, f := range files {
		text, err := readEnvFile(f)
		missing := errors.Is(err, fs.ErrNotExist) && f.Optional
		if err != nil && !missing {
			return err
		}
		value, err := podplan.EnvFileValue(text, f.Key)
		switch {
		case err != nil:
			return fmt.Errorf("couldn't parse env file %q of volume: %w", f.Path, err)
		case strings.Contains(value, "\x00"):
			return fmt.Errorf("environment variable key %q in file %q has a NUL byte", f.Key, f.Path)
		case value == "" && !f.Optional:
			return fmt.Errorf("environment variable key %q not found in file %q", f.Key, f.Path)
		case value == "":
			// Without the variable, what refers to it stays as it is written.
			c.Envs = slices.DeleteFunc(c.Envs, func(e *runtimev1.KeyValue) bool { return e.Key == f.Name && string(e.Value) == f.Stand })
			value = "$(" + f.Name + ")"
		}
		for _, e := range c.Envs {
			e.Value = []byte(strings.ReplaceAll(string(e.Value), f.Stand, value))
		}
		for _, list := range [][]string{c.Command, c.Args} {
			for i := range list {
				list[i] = strings.ReplaceAll(list[i], f.Stand, value)
			}
		}
	}
	return nil
}

// readEnvFile reads a file that a container of the pod may have written: nothing of it leads out of the
// volume, and it is a plain file, on which nobody waits.
func readEnvFile(f podplan.EnvFile) (string, error) {
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return "", fmt.Errorf("open the volume of env file %q: %w", f.Path, err)
	}
	defer root.Close()
	file, err := root.OpenFile(f.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("open env file %q: %w", f.Path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", fmt.Errorf("open env file %q: %w", f.Path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxEnvFile {
		return "", fmt.Errorf("env file %q must be a file of at most %d bytes", f.Path, maxEnvFile)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxEnvFile))
	if err != nil {
		return "", fmt.Errorf("read env file %q: %w", f.Path, err)
	}
	return string(text), nil
}
