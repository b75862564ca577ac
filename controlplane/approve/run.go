package approve

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// again is when a request that was not approved is looked at again: its node
// may be about to register, or to say its addresses.
const again = time.Second

// Run approves what it may until ctx ends.
func Run(ctx context.Context, c kubernetes.Interface, reserved Reserved, log *slog.Logger) error {
	a := &approver{client: c, reserved: reserved, log: log, told: map[string]string{}}
	look := func(o any) {
		if r, ok := o.(*certificatesv1.CertificateSigningRequest); ok {
			a.look(ctx, r)
		}
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(c.CertificatesV1().RESTClient(), "certificatesigningrequests", "",
			fields.OneTermEqualSelector("spec.signerName", certificatesv1.KubeletServingSignerName)),
		ObjectType:   &certificatesv1.CertificateSigningRequest{},
		ResyncPeriod: again,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc: look, UpdateFunc: func(_, o any) { look(o) },
			DeleteFunc: func(o any) {
				if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(o); err == nil {
					delete(a.told, key)
				}
			},
		},
	})
	informer.RunWithContext(ctx)
	return nil
}

// approver is used by the informer's goroutine alone.
type approver struct {
	client   kubernetes.Interface
	reserved Reserved
	log      *slog.Logger
	told     map[string]string // by request, why it is not approved
}

func (a *approver) look(ctx context.Context, r *certificatesv1.CertificateSigningRequest) {
	if len(r.Status.Conditions) > 0 || len(r.Status.Certificate) > 0 {
		return
	}
	why, err := a.decide(ctx, r)
	if err != nil && ctx.Err() == nil {
		why = err.Error()
	}
	if why != "" && a.told[r.Name] != why {
		a.told[r.Name] = why
		a.log.Info("a request for a serving certificate is left to people", "request", r.Name, "by", r.Spec.Username, "why", why)
	}
}

func (a *approver) decide(ctx context.Context, r *certificatesv1.CertificateSigningRequest) (why string, err error) {
	nodes, err := a.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list nodes: %w", err)
	}
	if why := Judge(r, nodes.Items, a.reserved); why != "" {
		return why, nil
	}
	r = r.DeepCopy()
	r.Status.Conditions = append(r.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue,
		Reason: "NodeletApproved", Message: "The node asks for its own name and addresses.",
	})
	if _, err := a.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, r.Name, r, metav1.UpdateOptions{}); err != nil {
		return "", fmt.Errorf("approve: %w", err)
	}
	a.log.Info("approved a serving certificate", "request", r.Name, "node", r.Spec.Username)
	return "", nil
}
