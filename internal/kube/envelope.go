package kube

import (
	"bytes"
	"errors"
)

// protobufMagic begins every object of the API in protobuf, before a runtime.Unknown
// (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
const protobufMagic = "k8s\x00"

var errEnvelope = errors.New("decode an event: not a WatchEvent of Kubernetes in protobuf")

// Numbers of fields (k8s.io/apimachinery: meta/v1 generated.proto, runtime generated.proto).
const (
	eventType, eventObject = 1, 2
	extensionRaw           = 1
	unknownRaw             = 2
)

// openEvent takes the object out of a WatchEvent: event, RawExtension, magic, Unknown, object. body lies in frame.
func openEvent(frame []byte) (verb string, body []byte, err error) {
	name, ok := lastField(frame, eventType)
	if !ok {
		return "", nil, errEnvelope
	}
	if body, ok = lastField(frame, eventObject); ok {
		body, ok = lastField(body, extensionRaw)
	}
	if body, is := bytes.CutPrefix(body, []byte(protobufMagic)); ok && is {
		if body, ok = lastField(body, unknownRaw); ok {
			return string(name), body, nil
		}
	}
	return "", nil, errEnvelope
}

// lastField gives the value of a field of bytes: of several the last one counts, a missing one is
// empty. It is false when b is no message.
func lastField(b []byte, number uint64) (value []byte, ok bool) {
	ok = eachField(b, func(at uint64, v []byte, _ uint64) bool {
		if at == number && v != nil {
			value = v
		}
		return true
	})
	return value, ok
}
