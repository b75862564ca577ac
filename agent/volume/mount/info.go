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
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	defer f.Close()
	mounts, err := parse(f, dir)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return mounts, nil
}

// parse reads mountinfo, where a mount comes after the one it is mounted on.
func parse(r io.Reader, dir string) ([]string, error) {
	var mounts []string
	lines := bufio.NewScanner(r)
	// overlayfs lines hold the paths of all layers and outgrow the default of 64 KiB.
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.SplitN(lines.Text(), " ", 6)
		if len(fields) < 6 {
			return nil, fmt.Errorf("mount table has a line of %d fields: %q", len(fields), lines.Text())
		}
		place := unescape(fields[4])
		if place == dir || strings.HasPrefix(place, strings.TrimSuffix(dir, "/")+"/") {
			mounts = append(mounts, place)
		}
	}
	slices.Reverse(mounts)
	return mounts, lines.Err()
}

// unescape undoes the kernel's way to write space, tab, newline and backslash.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
