package draplan

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"nodelet/internal/model"
)

// maxMessage is the length of a message about health in bytes, by the API (v1.ResourceHealthMessageMaxLength).
const maxMessage = corev1.ResourceHealthMessageMaxLength

// Ready reports whether the containers of a pod may be made as far as its claims go.
func Ready(pod *corev1.Pod, row *model.PodDevices) bool {
	if !Any(pod) {
		return true
	}
	needs, err := Needs(pod)
	return err == nil && (len(needs) == 0 || Has(row, needs))
}

// use is one claim of a container; request empty: all of the claim's.
type use struct {
	// ref is the name in spec.resourceClaims, empty for extended resources.
	ref, claim, request string
}

// uses are the claims of one container.
func uses(pod *corev1.Pod, c *corev1.Container) (all []use) {
	for _, r := range c.Resources.Claims {
		for i := range pod.Spec.ResourceClaims {
			p := &pod.Spec.ResourceClaims[i]
			if p.Name != r.Name {
				continue
			}
			if name, err := objectName(pod, p); err == nil && name != "" {
				all = append(all, use{p.Name, name, r.Request})
			}
		}
	}
	if x := pod.Status.ExtendedResourceClaimStatus; x != nil {
		for _, m := range x.RequestMappings {
			if q := c.Resources.Requests[corev1.ResourceName(m.ResourceName)]; m.ContainerName == c.Name && !q.IsZero() {
				all = append(all, use{"", x.ResourceClaimName, m.RequestName})
			}
		}
	}
	return all
}

// devices are those of a row that one use stands for.
func devices(u use, row *model.PodDevices) (all []model.PreparedDevice) {
	// Devices name requests without the part for the chosen alternative ("request/alternative").
	request, _, _ := strings.Cut(u.request, "/")
	for _, c := range row.Claims {
		if c.Name != u.claim {
			continue
		}
		for _, d := range c.Devices {
			if request == "" || len(d.Requests) == 0 || slices.Contains(d.Requests, request) {
				all = append(all, d)
			}
		}
	}
	return all
}

// CDI are the CDI devices to make a container with, none twice.
func CDI(pod *corev1.Pod, c *corev1.Container, row *model.PodDevices) (names []string) {
	if row == nil {
		return nil
	}
	for _, u := range uses(pod, c) {
		for _, d := range devices(u, row) {
			for _, name := range d.CDI {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	return names
}

// Claims are those of a container that are prepared, with all their devices.
func Claims(pod *corev1.Pod, c *corev1.Container, row *model.PodDevices) (all []model.PreparedClaim) {
	if row == nil {
		return nil
	}
	for _, claim := range row.Claims {
		if slices.ContainsFunc(uses(pod, c), func(u use) bool { return u.claim == claim.Name }) {
			all = append(all, claim)
		}
	}
	return all
}

// Health says how the devices of a container's claims are (KEP-4680).
func Health(pod *corev1.Pod, c *corev1.Container, row *model.PodDevices) (all []corev1.ResourceStatus) {
	if row == nil {
		return nil
	}
	for _, u := range uses(pod, c) {
		if u.ref == "" {
			continue
		}
		one := corev1.ResourceStatus{Name: corev1.ResourceName("claim:" + u.ref)}
		if u.request != "" {
			one.Name += corev1.ResourceName("/" + u.request)
		}
		for _, d := range devices(u, row) {
			h := healthOf(d)
			if !slices.ContainsFunc(one.Resources, func(o corev1.ResourceHealth) bool { return o.ResourceID == h.ResourceID }) {
				one.Resources = append(one.Resources, h)
			}
		}
		if len(one.Resources) > 0 {
			all = append(all, one)
		}
	}
	return all
}

func healthOf(d model.PreparedDevice) corev1.ResourceHealth {
	h := corev1.ResourceHealth{ResourceID: corev1.ResourceID(d.Driver + "/" + d.Pool + "/" + d.Device), Health: corev1.ResourceHealthStatusUnknown}
	if len(d.CDI) > 0 {
		h.ResourceID = corev1.ResourceID(d.CDI[0])
	}
	switch d.Health {
	case model.Healthy:
		h.Health = corev1.ResourceHealthStatusHealthy
	case model.Unhealthy:
		h.Health = corev1.ResourceHealthStatusUnhealthy
	}
	if message := d.Message; message != "" {
		if len(message) > maxMessage {
			message = strings.ToValidUTF8(message[:maxMessage-3], "") + "..."
		}
		h.Message = &message
	}
	return h
}
