package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SetOOMScore sets oom_score_adj of this process, -1000 (never killed) to 1000; proc is where procfs is
// mounted. Without CAP_SYS_RESOURCE the kernel lets nobody below what the process was started with
// (proc(5)). Children that are started later begin with it.
func SetOOMScore(proc string, score int) error {
	file := filepath.Join(proc, "self/oom_score_adj")
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == strconv.Itoa(score) {
		return nil
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(score)), 0o644); err != nil {
		return fmt.Errorf("set oom_score_adj to %d: %w", score, err)
	}
	return nil
}
