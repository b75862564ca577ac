package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// callTimeout bounds every single request but watches.
const callTimeout = 10 * time.Second

// Client talks to one API server. It implements the small interfaces that the
// features declare in their Deps. Errors of the API are StatusErrors of
// k8s.io/apimachinery; errors of the way there name the server.
type Client struct {
	host   string
	scheme *runtime.Scheme
	params runtime.ParameterCodec
	groups map[schema.GroupVersion]*rest.RESTClient
}

// Load reads a kubeconfig and makes a client from it. It does not talk to the
// server yet: that may come up later. rate bounds all requests but heartbeats and events.
func Load(kubeconfig, userAgent string, rate Rate) (*Client, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w (pass the right file with --kubeconfig)", kubeconfig, err)
	}
	cfg.UserAgent, cfg.RateLimiter = userAgent, rate.limiter()
	return New(cfg)
}

// LoadInCluster uses the service account of the pod this runs in, with the API
// server at the given URL: the address of its Service works only once the
// proxy does, which may be us.
func LoadInCluster(server, userAgent string, rate Rate) (*Client, error) {
	cfg, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("read the pod's service account: %w (outside of a pod pass --kubeconfig)", err)
	}
	cfg.Host, cfg.UserAgent, cfg.RateLimiter = server, userAgent, rate.limiter()
	return New(cfg)
}

// New makes a client from a REST configuration; of what that says of rates, only RateLimiter counts.
func New(cfg *rest.Config) (*Client, error) {
	c := &Client{host: cfg.Host, scheme: runtime.NewScheme(), groups: map[schema.GroupVersion]*rest.RESTClient{}}
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, discoveryv1.AddToScheme, coordinationv1.AddToScheme,
		authenticationv1.AddToScheme, authorizationv1.AddToScheme, storagev1.AddToScheme, nodev1.AddToScheme, certificatesv1.AddToScheme, resourcev1.AddToScheme,
		networkingv1.AddToScheme, certificatesv1beta1.AddToScheme,
	} {
		if err := add(c.scheme); err != nil {
			return nil, fmt.Errorf("register API types: %w", err)
		}
	}
	metav1.AddToGroupVersion(c.scheme, corev1.SchemeGroupVersion)
	c.params = runtime.NewParameterCodec(c.scheme)
	codecs := serializer.NewCodecFactory(c.scheme)
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("use credentials for %s: %w", cfg.Host, err)
	}
	for _, gv := range []schema.GroupVersion{
		corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, coordinationv1.SchemeGroupVersion,
		authenticationv1.SchemeGroupVersion, authorizationv1.SchemeGroupVersion, storagev1.SchemeGroupVersion, nodev1.SchemeGroupVersion, certificatesv1.SchemeGroupVersion, resourcev1.SchemeGroupVersion,
		networkingv1.SchemeGroupVersion, certificatesv1beta1.SchemeGroupVersion,
	} {
		client, err := groupClient(cfg, gv, codecs, httpClient)
		if err != nil {
			return nil, err
		}
		c.groups[gv] = client
	}
	return c, nil
}

// groupClient makes the REST client of one API group. All share one HTTP
// client and so one connection, and one limit on the rate of requests where there is one: by default
// there is none, because the server has its own (priority and fairness) and waiting here only adds
// latency to pod starts. Leases are never limited: a node whose pods have much to say must not look dead.
func groupClient(cfg *rest.Config, gv schema.GroupVersion, codecs serializer.CodecFactory, h *http.Client) (*rest.RESTClient, error) {
	g := rest.CopyConfig(cfg)
	g.GroupVersion = &gv
	g.APIPath = "/apis"
	if gv.Group == "" {
		g.APIPath = "/api"
	}
	g.NegotiatedSerializer = codecs.WithoutConversion()
	g.ContentType = runtime.ContentTypeProtobuf
	g.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	g.QPS = -1 // no limit but RateLimiter
	if gv.Group == coordinationv1.GroupName {
		g.RateLimiter = nil
	}
	client, err := rest.RESTClientForConfigAndClient(g, h)
	if err != nil {
		return nil, fmt.Errorf("make client for %s at %s: %w", gv, cfg.Host, err)
	}
	return client, nil
}

// Host is the address of the API server as the kubeconfig gives it.
func (c *Client) Host() string { return c.host }

func (c *Client) core() *rest.RESTClient { return c.groups[corev1.SchemeGroupVersion] }

// WaitReady blocks until the server answers /readyz with success, asking every
// interval, and calls progress with each distinct reason why it does not.
func (c *Client) WaitReady(ctx context.Context, interval time.Duration, progress func(error)) error {
	last := ""
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := c.core().Get().AbsPath("/readyz").DoRaw(call)
		cancel()
		if err == nil {
			return nil
		}
		if text := err.Error(); text != last && ctx.Err() == nil {
			last = text
			progress(err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the API server at %s: %w", c.host, errors.Join(ctx.Err(), err))
		case <-time.After(interval):
		}
	}
}
