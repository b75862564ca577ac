package mount

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Below lists what is mounted on dir and below it, the last mounted first: in
// this order each can be unmounted. A place with two mounts is listed twice.
func Below(dir string) ([]string, error) {
	return table(func(r io.Reader) ([]string, error) { return parse(r, dir) })
}

// OfDevice tells whether the file system of a block device is mounted anywhere, and its type.
func OfDevice(major, minor uint32) (fsType string, mounted bool, err error) {
	types, err := table(func(r io.Reader) ([]string, error) { return typesOf(r, fmt.Sprintf("%d:%d", major, minor)) })
	if len(types) == 0 {
		return "", false, err
	}
	return types[0], true, err
}

func table(read func(io.Reader) ([]string, error)) ([]string, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer f.Close()
	got, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return got, nil
}

// parse reads mountinfo, where a mount comes after the one it is mounted on.
func parse(r io.Reader, dir string) (mounts []string, err error) {
	err = eachLine(r, func(fields []string) {
		place := unescape(fields[4])
		if place == dir || strings.HasPrefix(place, strings.TrimSuffix(dir, "/")+"/") {
			mounts = append(mounts, place)
		}
	})
	slices.Reverse(mounts)
	return mounts, err
}

// typesOf reads the types of the mounts of a device, as major:minor.
func typesOf(r io.Reader, device string) (types []string, err error) {
	err = eachLine(r, func(fields []string) {
		// Optional fields come before the dash, the type behind it.
		if _, rest, ok := strings.Cut(fields[5], " - "); ok && fields[2] == device {
			kind, _, _ := strings.Cut(rest, " ")
			types = append(types, kind)
		}
	})
	return types, err
}

// eachLine gives the first five fields of each line and the rest of it.
func eachLine(r io.Reader, fn func(fields []string)) error {
	lines := bufio.NewScanner(r)
	// overlayfs lines hold the paths of all layers and outgrow the default of 64 KiB.
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 6)
		if len(fields) < 6 {
			return fmt.Errorf("mount table has a line of %d fields: %q", len(fields), lines.Text())
		}
		fn(fields)
	}
	return lines.Err()
}

// unescape undoes the kernel's way to write space, tab, newline and backslash.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
