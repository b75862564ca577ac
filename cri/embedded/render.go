package embedded

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"

	srvconfig "github.com/containerd/containerd/v2/cmd/containerd/server/config"
	"github.com/containerd/containerd/v2/version"
	"github.com/containerd/platforms"
)

// found is what Start learnt about the machine.
type found struct {
	shim        string // stable path of the shim
	runc        string // absolute path
	snapshotter string
	restrictOOM bool // no CAP_SYS_RESOURCE: runc cannot lower oom_score_adj and would die trying
}

// maxShimSockets is containerd's limit: 64 characters of digest follow.
const maxShimSockets = 42

// shimSockets is the directory of the shims' sockets, in the state directory if that is short enough.
func (c Config) shimSockets() string {
	dir := filepath.Join(c.State, "s")
	if len(dir) <= maxShimSockets {
		return dir
	}
	sum := sha256.Sum256([]byte(c.State))
	return "/run/nodelet-shims-" + hex.EncodeToString(sum[:6])
}

// render makes containerd's configuration.
func (c Config) render(f found) *srvconfig.Config {
	other := overlayfs
	if f.snapshotter == overlayfs {
		other = native
	}
	return &srvconfig.Config{
		Version:         version.ConfigVersion,
		Root:            c.Root,
		State:           c.State,
		DisabledPlugins: []string{"io.containerd.snapshotter.v1." + other},
		Plugins: map[string]any{
			"io.containerd.shim.v1.manager":   map[string]any{"socket_dir": c.shimSockets()},
			"io.containerd.cri.v1.runtime":    c.renderRuntime(f),
			"io.containerd.cri.v1.images":     c.renderImages(f),
			"io.containerd.grpc.v1.cri":       renderStreaming(),
			"io.containerd.transfer.v1.local": c.renderTransfer(f),
		},
	}
}

func (c Config) renderRuntime(f found) map[string]any {
	return map[string]any{
		"containerd": map[string]any{
			"default_runtime_name": "runc",
			"runtimes": map[string]any{
				"runc": map[string]any{
					"runtime_type": "io.containerd.runc.v2",
					"runtime_path": f.shim,
					"sandboxer":    "podsandbox",
					"options": map[string]any{
						"BinaryName":    f.runc,
						"Root":          filepath.Join(c.State, "runc"),
						"SystemdCgroup": c.SystemdCgroup,
					},
				},
			},
		},
		"cni": map[string]any{
			"bin_dirs":              c.CNIBinDirs,
			"conf_dir":              c.CNIConfDir,
			"max_conf_num":          1,
			"use_internal_loopback": true, // saves a loopback binary and 2 ms per sandbox
		},
		"restrict_oom_score_adj":       f.restrictOOM,
		"netns_mounts_under_state_dir": true,
		"max_container_log_line_size":  c.MaxLogLine,
		"enable_unprivileged_ports":    true, // as everywhere since containerd 2.0
		"enable_unprivileged_icmp":     true,
		// containerd samples every container and sandbox each second by default, for a rate that the agent
		// computes itself. Every 10 s it was two thirds of what 100 idle pods cost. It cannot be turned off.
		"stats_collect_period": "8760h",
		"enable_criu":          false, // checkpoints run code from images: opt in when somebody needs it
	}
}

func (c Config) renderImages(f found) map[string]any {
	return map[string]any{
		"snapshotter":   f.snapshotter,
		"pinned_images": map[string]any{"sandbox": PauseImage},
		"registry":      map[string]any{"config_path": c.RegistryDirs},
		// Each round walks the files of every running container.
		"stats_collect_period": 60,
	}
}

func renderStreaming() map[string]any {
	return map[string]any{
		"disable_tcp_service":   true,
		"stream_server_address": "127.0.0.1",
		"stream_server_port":    "0",
		"stream_idle_timeout":   "4h0m0s",
	}
}

func (c Config) renderTransfer(f found) map[string]any {
	return map[string]any{
		"config_path": c.RegistryDirs,
		"unpack_config": []map[string]any{{
			"platform":    platforms.Format(platforms.DefaultSpec()),
			"snapshotter": f.snapshotter,
			"differ":      "walking",
		}},
	}
}
