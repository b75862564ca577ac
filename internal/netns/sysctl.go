package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctlRoot shows the network sysctls of the calling thread's namespace.
const sysctlRoot = "/proc/sys/net"

// ReadSysctl reads a network sysctl of the calling thread's namespace, such
// as "ipv4/ip_forward". Slashes and not dots, because names of links may hold
// dots. The error wraps os.ErrNotExist when this kernel does not have it.
func ReadSysctl(key string) (string, error) {
	value, err := withSysctl(key, unix.O_RDONLY, readValue)
	if err != nil {
		return "", fmt.Errorf("read sysctl net/%s: %w", key, err)
	}
	return value, nil
}

// WriteSysctl writes a network sysctl and says whether that changed anything.
func WriteSysctl(key, value string) (changed bool, err error) {
	old, err := ReadSysctl(key)
	if err != nil || old == value {
		return false, err
	}
	_, err = withSysctl(key, unix.O_WRONLY, func(fd int) (string, error) {
		_, err := unix.Write(fd, []byte(value))
		return "", err
	})
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		return false, fmt.Errorf("write sysctl net/%s=%s (needs root and a writable /proc/sys): %w", key, value, err)
	}
	if err != nil {
		return false, fmt.Errorf("write sysctl net/%s=%s: %w", key, value, err)
	}
	return true, nil
}

// withSysctl uses bare system calls: these files cannot be waited for, and
// nodelet-cni opens several for each pod.
func withSysctl(key string, flags int, use func(fd int) (string, error)) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return use(fd)
}

// readValue reads in one go, as sysctls want it; the longest are far shorter.
func readValue(fd int) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Read(fd, buf)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(buf[:n])), nil
}

// sysctlPath refuses keys that would leave the tree: parts of them are names
// of links, which come from outside.
func sysctlPath(key string) (string, error) {
	if !filepath.IsLocal(key) {
		return "", fmt.Errorf("sysctl name %q is not inside net", key)
	}
	return filepath.Join(sysctlRoot, key), nil
}
