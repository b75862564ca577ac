package addons

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	schedulingv1 "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"

	"nodelet/controlplane/pki"
)

// creations is how many objects are created at a time: more do not get faster,
// since each waits for the same disk.
const creations = 8

// CreatePolicy creates upstream's standard roles, their bindings and its
// priority classes where they are missing. Upstream's API server does the same,
// but only begins a second after it serves, and until then neither controllers
// nor scheduler may do anything; what it finds it reconciles.
func CreatePolicy(ctx context.Context, c kubernetes.Interface) error {
	for _, step := range []func(context.Context, kubernetes.Interface) ([]creation, error){
		missingRoles, missingBindings, missingNamespaced, missingPriorities,
	} {
		todo, err := step(ctx, c)
		if err != nil {
			return err
		}
		if err := create(ctx, todo); err != nil {
			return err
		}
	}
	return nil
}

type creation func(context.Context) error

func create(ctx context.Context, todo []creation) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(creations)
	for _, do := range todo {
		g.Go(func() error {
			if err := do(ctx); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("create standard policy: %w", err)
			}
			return nil
		})
	}
	return g.Wait()
}

func missingRoles(ctx context.Context, c kubernetes.Interface) ([]creation, error) {
	api := c.RbacV1().ClusterRoles()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list cluster roles: %w", err)
	}
	have := names(list.Items, func(i int) string { return list.Items[i].Name })
	var todo []creation
	for _, r := range append(bootstrappolicy.ClusterRoles(), bootstrappolicy.ControllerRoles()...) {
		if !have[r.Name] {
			todo = append(todo, func(ctx context.Context) error {
				_, err := api.Create(ctx, &r, metav1.CreateOptions{})
				return err
			})
		}
	}
	return todo, nil
}

func missingBindings(ctx context.Context, c kubernetes.Interface) ([]creation, error) {
	api := c.RbacV1().ClusterRoleBindings()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list cluster role bindings: %w", err)
	}
	have := names(list.Items, func(i int) string { return list.Items[i].Name })
	var todo []creation
	for _, b := range append(bootstrappolicy.ClusterRoleBindings(), bootstrappolicy.ControllerRoleBindings()...) {
		if !have[b.Name] {
			todo = append(todo, func(ctx context.Context) error {
				_, err := api.Create(ctx, &b, metav1.CreateOptions{})
				return err
			})
		}
	}
	return todo, nil
}

// missingNamespaced does roles before bindings by order alone: a binding may
// exist before its role.
func missingNamespaced(ctx context.Context, c kubernetes.Interface) ([]creation, error) {
	roles, err := c.RbacV1().Roles("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	have := names(roles.Items, func(i int) string { return roles.Items[i].Namespace + "/" + roles.Items[i].Name })
	var todo []creation
	for namespace, wanted := range bootstrappolicy.NamespaceRoles() {
		for _, r := range wanted {
			if !have[namespace+"/"+r.Name] {
				todo = append(todo, func(ctx context.Context) error {
					_, err := c.RbacV1().Roles(namespace).Create(ctx, &r, metav1.CreateOptions{})
					return err
				})
			}
		}
	}
	bindings, err := c.RbacV1().RoleBindings("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list role bindings: %w", err)
	}
	have = names(bindings.Items, func(i int) string { return bindings.Items[i].Namespace + "/" + bindings.Items[i].Name })
	for namespace, wanted := range bootstrappolicy.NamespaceRoleBindings() {
		for _, b := range wanted {
			if !have[namespace+"/"+b.Name] {
				todo = append(todo, func(ctx context.Context) error {
					_, err := c.RbacV1().RoleBindings(namespace).Create(ctx, &b, metav1.CreateOptions{})
					return err
				})
			}
		}
	}
	return todo, nil
}

func missingPriorities(ctx context.Context, c kubernetes.Interface) ([]creation, error) {
	api := c.SchedulingV1().PriorityClasses()
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list priority classes: %w", err)
	}
	have := names(list.Items, func(i int) string { return list.Items[i].Name })
	var todo []creation
	for _, p := range schedulingv1.SystemPriorityClasses() {
		if !have[p.Name] {
			todo = append(todo, func(ctx context.Context) error {
				_, err := api.Create(ctx, p, metav1.CreateOptions{})
				return err
			})
		}
	}
	return todo, nil
}

func names[T any](items []T, name func(int) string) map[string]bool {
	set := make(map[string]bool, len(items))
	for i := range items {
		set[name(i)] = true
	}
	return set
}

// InForce tells whether the authorizer has seen every role and binding created
// before ApplyRights returned: it reads them from watches that keep their
// order, so seeing the last ones is seeing all.
func InForce(ctx context.Context, c kubernetes.Interface) error {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: pki.UserKubeletClient,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: "create", Resource: "nodes", Subresource: "proxy",
		},
	}}
	got, err := c.AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ask authorizer: %w", err)
	}
	if !got.Status.Allowed {
		return fmt.Errorf("ask authorizer: rights of %s are not in force yet", pki.UserKubeletClient)
	}
	return nil
}
