package image

import (
	"cmp"
	"context"
	"iter"
	"log/slog"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	runtimev1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"nodelet/agent/image/imageplan"
	"nodelet/internal/model"
	"nodelet/internal/reconcile"
	"nodelet/internal/store"
)

// defaultParallel bounds pulls when the configuration does not: enough to use
// the network while one registry is slow, few enough to leave the disk alone.
const defaultParallel = 3

// defaultBurst is upstream's registryBurst.
const defaultBurst = 10

// hintQueue is how many requests may be under way between Ensure and the loop.
const hintQueue = 256

// Config has the values that rule this part.
type Config struct {
	// Parallel bounds the pulls at one time; 0 means 3.
	Parallel int
	// PullsPerSecond and Burst bound how often registries are asked for an image: a pull beyond waits
	// for its turn. 0 means no bound, and a burst of 10.
	PullsPerSecond float64
	Burst          int
	// LoginFile is a login file of this node (config.json), for pods that bring no logins of their own;
	// empty for none. It is read for each pull.
	LoginFile string
}

// Runtime is what is used of cri.Runtime.
type Runtime interface {
	ImageStatus(context.Context, *runtimev1.ImageStatusRequest) (*runtimev1.ImageStatusResponse, error)
	PullImage(context.Context, *runtimev1.PullImageRequest) (*runtimev1.PullImageResponse, error)
}

// Events tells users what happens to their pods; it never blocks.
type Events interface {
	Event(ref corev1.ObjectReference, eventType, reason, message string)
}

// Deps are the seams.
type Deps struct {
	Store   *store.Store
	Images  *store.Writer[model.ImageRef, *model.Image]
	Runtime Runtime
	Events  Events
	Log     *slog.Logger
	Health  *reconcile.Health
	// Logins gives what the node's credential plugins say for an image, and may take its time; nil for none.
	Logins func(ctx context.Context, image string) []imageplan.Login
}

// Request asks for an image for one start of a container.
type Request struct {
	Pod       *corev1.Pod
	Container string
	// Attempt is the restart count of the start.
	Attempt uint32
	Image   string
	Policy  corev1.PullPolicy
}

// Images is the image part of the agent.
type Images struct {
	cfg   Config
	deps  Deps
	queue queue
	hints chan key
	slots chan struct{}
	rate  *rate.Limiter
}

// key is what pulls are told apart by.
type key struct {
	ref         model.ImageRef
	credentials string
}

// New makes the image part; Run does the work.
func New(cfg Config, deps Deps) (*Images, error) {
	if cfg.Parallel <= 0 {
		cfg.Parallel = defaultParallel
	}
	limit := rate.Inf
	if cfg.PullsPerSecond > 0 {
		limit = rate.Limit(cfg.PullsPerSecond)
	}
	return &Images{
		cfg: cfg, deps: deps, hints: make(chan key, hintQueue), slots: make(chan struct{}, cfg.Parallel),
		rate: rate.NewLimiter(limit, cmp.Or(cfg.Burst, defaultBurst)),
	}, nil
}

// Ensure asks for an image. It returns as soon as the request is noted; what
// came of it appears in the Images table, where imageplan.Decide reads it.
// Asking again for the same start is harmless.
func (m *Images) Ensure(ctx context.Context, r Request) {
	access := imageplan.Credentials(r.Pod, r.Image, m.deps.Store.Snapshot().Configs.Get)
	if access.Wait {
		return // the secret's arrival changes the snapshot, and the plan asks again
	}
	k := key{model.ImageRef(r.Image), access.Key}
	m.queue.add(k, request{r, access})
	select {
	case m.hints <- k:
	case <-ctx.Done():
	}
}

// Run blocks until ctx ends.
func (m *Images) Run(ctx context.Context) error {
	m.deps.Images.Replace(nil)
	loop := &reconcile.Keyed[key]{
		Name:   "images",
		Store:  m.deps.Store,
		Log:    m.deps.Log,
		Keys:   func(_, _ *store.Snapshot) iter.Seq[key] { return func(func(key) bool) {} },
		Sync:   m.sync,
		Hints:  m.hints,
		Health: m.deps.Health,
	}
	return loop.Run(ctx)
}
