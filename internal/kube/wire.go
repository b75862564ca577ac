package kube

import (
	"encoding/binary"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"nodelet/internal/model"
)

var errWire = errors.New("decode an object: not what its type is in protobuf")

// Numbers of fields (k8s.io/api: discovery/v1 and core/v1 generated.proto; k8s.io/apimachinery: meta/v1 generated.proto).
const (
	sliceMeta, sliceEndpoints, slicePorts, sliceAddressType   = 1, 2, 3, 4
	metaName, metaNamespace, metaVersion                      = 1, 3, 6
	metaLabels, metaAnnotations                               = 11, 12
	entryKey, entryValue                                      = 1, 2
	endpointAddresses, endpointConditions, endpointHostname   = 1, 2, 3
	endpointTarget, endpointNode, endpointZone, endpointHints = 4, 6, 7, 8
	conditionReady, conditionServing, conditionTerminating    = 1, 2, 3
	hintsZones, hintsNodes, hintName                          = 1, 2, 1
	targetKind, targetNamespace, targetName                   = 1, 2, 3
	slicePortName, slicePortProtocol, slicePortNumber         = 1, 2, 3
)

// wireSliceFrom is wireSlice for a stream, with when the object came.
func (n *names) wireSliceFrom(came *time.Time) func([]byte) (any, string, error) {
	return func(b []byte) (any, string, error) {
		r, err := n.wireSlice(b)
		if err != nil {
			return nil, "", err
		}
		r.value.Arrived = *came
		return r, r.value.ResourceVersion, nil
	}
}

// wireSlice reads an EndpointSlice in protobuf where it lies, and gives the row that slice makes of the
// object. The object in between took most of a change's time until the store: it has a value of its own for
// each field that may be missing, and many fields that nobody reads.
func (n *names) wireSlice(b []byte) (r row[model.Key, *model.Slice], err error) {
	family, ok := lastField(b, sliceAddressType)
	if !ok {
		return r, errWire
	}
	out := &model.Slice{IPv6: string(family) == string(discoveryv1.AddressTypeIPv6)}
	many := 0
	ok = eachField(b, func(number uint64, _ []byte, _ uint64) bool {
		if number == sliceEndpoints {
			many++
		}
		return true
	})
	if many > 0 {
		out.Endpoints = make([]model.Endpoint, 0, many)
	}
	ok = ok && eachField(b, func(number uint64, v []byte, _ uint64) bool {
		switch number {
		case sliceMeta:
			return n.wireMeta(out, v)
		case sliceEndpoints:
			return n.wireEndpoint(out, v)
		case slicePorts:
			return n.wirePort(out, v)
		}
		return true
	})
	if !ok {
		return r, errWire
	}
	out.Service.Namespace = out.Key.Namespace
	return row[model.Key, *model.Slice]{out.Key, out, string(family) != string(discoveryv1.AddressTypeFQDN)}, nil
}

func (n *names) wireMeta(out *model.Slice, b []byte) bool {
	return eachField(b, func(number uint64, v []byte, _ uint64) bool {
		switch number {
		case metaName:
			out.Key.Name = string(v)
		case metaNamespace:
			out.Key.Namespace = n.ofBytes(v)
		case metaVersion:
			out.ResourceVersion = string(v)
		case metaLabels:
			value, is, ok := entry(v, discoveryv1.LabelServiceName)
			if is {
				out.Service.Name = string(value)
			}
			return ok
		case metaAnnotations:
			value, is, ok := entry(v, corev1.EndpointsLastChangeTriggerTime)
			if is {
				out.Triggered = triggered(string(value))
			}
			return ok
		}
		return true
	})
}

func (n *names) wirePort(out *model.Slice, b []byte) bool {
	sp := model.SlicePort{Protocol: model.TCP}
	ok := eachField(b, func(number uint64, v []byte, num uint64) bool {
		switch number {
		case slicePortName:
			sp.Name = n.ofBytes(v)
		case slicePortProtocol:
			sp.Protocol = protocol(corev1.Protocol(v))
		case slicePortNumber:
			sp.Port = port(int32(num))
		}
		return true
	})
	out.Ports = append(out.Ports, sp)
	return ok
}

func (n *names) wireEndpoint(out *model.Slice, b []byte) bool {
	var e model.Endpoint
	var addr []byte
	var cond [4]*bool // by number
	var set [4]bool
	var zones, nodes []string
	good := true
	ok := eachField(b, func(number uint64, v []byte, _ uint64) bool {
		switch number {
		case endpointAddresses:
			if addr == nil {
				addr = v
			}
		case endpointConditions:
			good = eachField(v, func(number uint64, _ []byte, num uint64) bool {
				if number >= conditionReady && number <= conditionTerminating {
					set[number] = num != 0
					cond[number] = &set[number]
				}
				return true
			})
		case endpointHostname:
			e.Hostname = string(v)
		case endpointNode:
			e.NodeName = n.ofBytes(v)
		case endpointZone:
			e.Zone = n.ofBytes(v)
		case endpointTarget:
			e.Pod, good = n.wireTarget(v)
		case endpointHints:
			zones, nodes, good = n.wireHints(v)
		}
		return good
	})
	if !ok {
		return false
	}
	if e.Addr, ok = endpointAddr(string(addr), out.IPv6); !ok {
		return true
	}
	e.Ready, e.Serving, e.Terminating = conditions(cond[conditionReady], cond[conditionServing], cond[conditionTerminating])
	e.Hints = model.NewHints(zones, nodes)
	out.Endpoints = append(out.Endpoints, e)
	return true
}

// wireTarget gives the pod that a reference is to; the zero key for anything else.
func (n *names) wireTarget(b []byte) (key model.Key, ok bool) {
	pod := false
	ok = eachField(b, func(number uint64, v []byte, _ uint64) bool {
		switch number {
		case targetKind:
			pod = string(v) == "Pod"
		case targetNamespace:
			key.Namespace = n.ofBytes(v)
		case targetName:
			key.Name = string(v)
		}
		return true
	})
	if !pod {
		return model.Key{}, ok
	}
	return key, ok
}

func (n *names) wireHints(b []byte) (zones, nodes []string, ok bool) {
	ok = eachField(b, func(number uint64, v []byte, _ uint64) bool {
		name, good := lastField(v, hintName)
		switch number {
		case hintsZones:
			zones = append(zones, n.ofBytes(name))
		case hintsNodes:
			nodes = append(nodes, n.ofBytes(name))
		}
		return good
	})
	return zones, nodes, ok
}

// entry gives the value of an entry of a map when it has that key.
func entry(b []byte, key string) (value []byte, is, ok bool) {
	k, ok := lastField(b, entryKey)
	if !ok || string(k) != key {
		return nil, false, ok
	}
	value, ok = lastField(b, entryValue)
	return value, ok, ok
}

// triggered reads the annotation of that name; zero for what is no time.
func triggered(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}
	}
	return t
}

// eachField gives the fields of a message in order: of bytes the value, of numbers the number. It is
// false when b is no message, or when each does not want to go on.
func eachField(b []byte, each func(number uint64, v []byte, num uint64) bool) bool {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		var field []byte
		var num uint64
		switch tag & 7 {
		case 0: // varint
			if num, n = binary.Uvarint(b); n <= 0 {
				return false
			}
		case 1: // 64 bits
			n = 8
		case 2: // bytes
			size, head := binary.Uvarint(b)
			if head <= 0 || size > uint64(len(b)-head) {
				return false
			}
			n = head + int(size)
			field = b[head:n]
		case 5: // 32 bits
			n = 4
		default: // groups, which nothing of Kubernetes has
			return false
		}
		if n > len(b) || !each(tag>>3, field, num) {
			return false
		}
		b = b[n:]
	}
	return true
}
