package credplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	kubeletv1 "k8s.io/kubelet/config/v1"
	providerv1 "k8s.io/kubelet/pkg/apis/credentialprovider/v1"

	"nodelet/agent/image/imageplan"
)

const (
	// runTimeout is upstream's: how long a plugin may take.
	runTimeout = time.Minute
	// maxAnswer and maxComplaint bound what is read of a plugin's output.
	maxAnswer    = 1 << 20
	maxComplaint = 1 << 10
	// maxKept bounds the answers that are remembered of one plugin.
	maxKept = 1024
)

// Plugins are the credential provider plugins of this node.
type Plugins struct {
	log *slog.Logger
	all []*plugin
}

// plugin is one of them.
type plugin struct {
	kubeletv1.CredentialProvider
	program string

	mu   sync.Mutex // one run at a time; the next finds its answer
	kept map[string]answer
}

// answer is what a plugin said, and until when that holds.
type answer struct {
	logins []imageplan.Login
	until  time.Time
}

// Load reads the configuration; dir has the programs.
func Load(file, dir string, log *slog.Logger) (*Plugins, error) {
	providers, err := readConfig(file, dir)
	if err != nil {
		return nil, err
	}
	p := &Plugins{log: log}
	for _, c := range providers {
		p.all = append(p.all, &plugin{CredentialProvider: c, program: filepath.Join(dir, c.Name), kept: map[string]answer{}})
	}
	return p, nil
}

// Logins asks the plugins that are for an image. It may take as long as they do.
func (p *Plugins) Logins(ctx context.Context, image string) []imageplan.Login {
	var all []imageplan.Login
	for _, one := range p.all {
		if !slices.ContainsFunc(one.MatchImages, func(place string) bool { return imageplan.Matches(place, image) }) {
			continue
		}
		logins, err := one.logins(ctx, image)
		if err != nil {
			p.log.Warn("ask credential plugin, pulling without its logins", "plugin", one.Name, "image", image, "err", err)
			continue
		}
		all = append(all, logins...)
	}
	return all
}

// The keys that answers are kept under: a plugin may say that its answer is for the image, for its
// registry, or for all.
func imageKey(image string) string    { return "image " + image }
func registryKey(image string) string { return "registry " + imageplan.Registry(image) }

const globalKey = "all"

func (p *plugin) logins(ctx context.Context, image string) ([]imageplan.Login, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, key := range []string{imageKey(image), registryKey(image), globalKey} {
		if a, ok := p.kept[key]; ok && now.Before(a.until) {
			return a.logins, nil
		}
	}
	resp, err := p.run(ctx, image)
	if err != nil {
		return nil, err
	}
	var a answer
	for _, place := range slices.Sorted(maps.Keys(resp.Auth)) {
		auth := resp.Auth[place]
		a.logins = append(a.logins, imageplan.Login{Place: place, Auth: imageplan.Auth{Username: auth.Username, Password: auth.Password}})
	}
	keep := p.DefaultCacheDuration.Duration
	if resp.CacheDuration != nil {
		keep = resp.CacheDuration.Duration
	}
	var key string
	switch resp.CacheKeyType {
	case providerv1.ImagePluginCacheKeyType:
		key = imageKey(image)
	case providerv1.RegistryPluginCacheKeyType:
		key = registryKey(image)
	case providerv1.GlobalPluginCacheKeyType:
		key = globalKey
	default:
		return nil, fmt.Errorf("its answer has cacheKeyType %q: it must be Image, Registry or Global", resp.CacheKeyType)
	}
	if keep > 0 {
		maps.DeleteFunc(p.kept, func(_ string, old answer) bool { return len(p.kept) >= maxKept || !now.Before(old.until) })
		a.until = now.Add(keep)
		p.kept[key] = a
	}
	return a.logins, nil
}

// run runs the plugin: the question on its standard input, the answer on its standard output.
func (p *plugin) run(ctx context.Context, image string) (*providerv1.CredentialProviderResponse, error) {
	req := providerv1.CredentialProviderRequest{Image: image}
	req.APIVersion, req.Kind = p.APIVersion, "CredentialProviderRequest"
	question, err := json.Marshal(&req)
	if err != nil {
		return nil, fmt.Errorf("encode the question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.program, p.Args...)
	cmd.WaitDelay = time.Second // for children of it that keep its output open
	cmd.Env = os.Environ()
	for _, e := range p.Env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
	}
	var out, complaint bounded
	out.left, complaint.left = maxAnswer, maxComplaint
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(question), &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run it: %w: %s", err, complaint.String())
	}
	var resp providerv1.CredentialProviderResponse
	if out.cut || json.Unmarshal(out.Bytes(), &resp) != nil {
		return nil, errors.New("its answer cannot be read") // never with its content
	}
	if resp.APIVersion != p.APIVersion || resp.Kind != "CredentialProviderResponse" {
		return nil, fmt.Errorf("its answer is a %s %s: it must be %s CredentialProviderResponse", resp.APIVersion, resp.Kind, p.APIVersion)
	}
	return &resp, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	bytes.Buffer
	left int
	cut  bool
}

// Write takes all, and keeps what there is room for.
func (b *bounded) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.cut = b.cut || n < len(p)
	if _, err := b.Buffer.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

var _ io.Writer = (*bounded)(nil)
