package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// sysctlRoot shows the network sysctls of the calling thread's namespace.
const sysctlRoot = "/proc/sys/net"

// ReadSysctl reads a network sysctl of the calling thread's namespace, such
// as "ipv4/ip_forward". Slashes and not dots, because names of links may hold
// dots. The error wraps os.ErrNotExist when this kernel does not have it.
func ReadSysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read sysctl net/%s: %w", key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// WriteSysctl writes a network sysctl and says whether that changed anything.
func WriteSysctl(key, value string) (changed bool, err error) {
	old, err := ReadSysctl(key)
	if err != nil {
		return false, err
	}
	if old == value {
		return false, nil
	}
	path, err := sysctlPath(key)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
		if errors.Is(err, os.ErrPermission) || strings.Contains(err.Error(), "read-only") {
			return false, fmt.Errorf("write sysctl net/%s=%s (needs root and a writable /proc/sys): %w", key, value, err)
		}
		return false, fmt.Errorf("write sysctl net/%s=%s: %w", key, value, err)
	}
	return true, nil
}

// sysctlPath refuses keys that would leave the tree: parts of them are names
// of links, which come from outside.
func sysctlPath(key string) (string, error) {
	if !filepath.IsLocal(key) {
		return "", fmt.Errorf("sysctl name %q is not inside net", key)
	}
	return filepath.Join(sysctlRoot, key), nil
}
