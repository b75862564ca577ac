package model

import (
	"strings"
	"time"
)

// PodDevices is what drivers of dynamic resources have prepared for a pod that
// refers to ResourceClaims. It names a claim from before the first call to a
// driver until the last driver has taken back what it prepared.
type PodDevices struct {
	UID UID
	// Ready: all claims named here are prepared. The pod may need others, too (draplan.Ready).
	Ready bool
	// Message is why they are not, or why they cannot be given back; empty while things take their course.
	Message string
	// Claims by the names of the ResourceClaims, which are in the pod's namespace; sorted.
	Claims []PreparedClaim
}

// Held reports whether a driver may have something prepared for the pod.
func (p *PodDevices) Held() bool { return p != nil && len(p.Claims) > 0 }

// PreparedClaim is one ResourceClaim, with its devices once it is prepared.
type PreparedClaim struct {
	Name    string
	Devices []PreparedDevice
}

// PreparedDevice is one device as its driver described it.
type PreparedDevice struct {
	Driver, Pool, Device string
	// Share is the id of the share where the device is given to several, else empty.
	Share string `json:",omitempty"`
	// Requests of the claim that it was allocated for; none: all of them.
	Requests []string `json:",omitempty"`
	// CDI are names of CDI devices, such as vendor.com/class=name.
	CDI []string `json:",omitempty"`
	// Health is what the driver says of it, Message more about that.
	Health  Health `json:",omitempty"`
	Message string `json:",omitempty"`
}

// Health is what is known of a device's.
type Health uint8

// The states of health. A device is of unknown health where its driver does not tell, or has not for too long.
const (
	HealthUnknown Health = iota
	Healthy
	Unhealthy
)

// DeviceHealth is what a driver said of one device, and for how long that holds.
type DeviceHealth struct {
	Health  Health
	Message string
	Until   time.Time
}

// String is the state, the claims with their devices, and what is wrong.
func (p *PodDevices) String() string {
	parts := []string{p.UID.String() + " waiting"}
	if p.Ready {
		parts[0] = p.UID.String() + " ready"
	}
	for _, c := range p.Claims {
		part := c.Name
		for _, d := range c.Devices {
			part += " " + d.Driver + "/" + d.Pool + "/" + d.Device
			if len(d.Requests) > 0 {
				part += "(" + strings.Join(d.Requests, ",") + ")"
			}
			if len(d.CDI) > 0 {
				part += "=" + strings.Join(d.CDI, ",")
			}
			if d.Health == Unhealthy {
				part += " unhealthy"
			}
		}
		parts = append(parts, part)
	}
	if p.Message != "" {
		parts = append(parts, p.Message)
	}
	return strings.Join(parts, "; ")
}
