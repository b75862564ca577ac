package stubapi

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// protobufType is the media type that components of Kubernetes ask an API server for.
const protobufType = "application/vnd.kubernetes.protobuf"

// protobufMagic begins every object in that type; its parts follow in a runtime.Unknown
// (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
const protobufMagic = "k8s\x00"

// encoded is an object in both formats, so that serving it costs nobody's turn anything.
type encoded struct {
	json []byte
	// proto is the message of the object alone.
	proto []byte
}

// message is what objects of the API are in protobuf.
type message interface{ Marshal() ([]byte, error) }

func encode(o any) (out encoded, err error) {
	if out.json, err = json.Marshal(o); err != nil {
		return out, err
	}
	m, ok := o.(message)
	if !ok {
		return out, fmt.Errorf("%T has no protobuf form", o)
	}
	out.proto, err = m.Marshal()
	return out, err
}

// bookmark ends the events of what was there when a watch began.
func bookmark(k *kind, version int) encoded {
	o := metav1.PartialObjectMetadata{
		TypeMeta: metav1.TypeMeta{APIVersion: k.group, Kind: k.item},
		ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: strconv.Itoa(version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		},
	}
	// Its only field is the first one of every object.
	out, _ := encode(&o) // texts cannot fail to be encoded
	return out
}

// format is how an answer is written.
type format interface {
	listType() string
	watchType() string
	list(io.Writer, *kind, int)
	event(io.Writer, *kind, string, encoded)
}

// formatOf gives what a client accepts: protobuf where it is among it, as an API server does for who names it first.
func formatOf(accept string) format {
	if strings.HasPrefix(strings.TrimSpace(accept), protobufType) {
		return asProtobuf{}
	}
	return asJSON{}
}

// Errors of writing are not looked at: the client is gone then, and its request ends.

type asJSON struct{}

func (asJSON) listType() string  { return "application/json" }
func (asJSON) watchType() string { return "application/json" }

func (asJSON) list(w io.Writer, k *kind, version int) {
	_, _ = fmt.Fprintf(w, "{\"apiVersion\":%q,\"kind\":%q,\"metadata\":{\"resourceVersion\":\"%d\"},\"items\":[", k.group, k.list, version)
	first := true
	for _, o := range k.objects {
		if !first {
			_, _ = io.WriteString(w, ",")
		}
		first = false
		_, _ = w.Write(o.json)
	}
	_, _ = io.WriteString(w, "]}")
}

func (asJSON) event(w io.Writer, _ *kind, verb string, o encoded) {
	_, _ = fmt.Fprintf(w, "{\"type\":%q,\"object\":%s}\n", verb, o.json)
}

type asProtobuf struct{}

func (asProtobuf) listType() string  { return protobufType }
func (asProtobuf) watchType() string { return protobufType + ";stream=watch" }

func (asProtobuf) list(w io.Writer, k *kind, version int) {
	meta, _ := (&metav1.ListMeta{ResourceVersion: strconv.Itoa(version)}).Marshal()
	body := appendField(nil, 1, meta)
	for _, o := range k.objects {
		body = appendField(body, 2, o.proto)
	}
	_, _ = w.Write(envelope(k.group, k.list, body))
}

// event writes a frame: its length, then a WatchEvent.
func (asProtobuf) event(w io.Writer, k *kind, verb string, o encoded) {
	e := metav1.WatchEvent{Type: verb, Object: runtime.RawExtension{Raw: envelope(k.group, k.item, o.proto)}}
	body, _ := e.Marshal() // bytes cannot fail to be encoded
	_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
}

// envelope says what a message is.
func envelope(group, kind string, body []byte) []byte {
	u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: group, Kind: kind}, Raw: body}
	out, _ := u.Marshal() // likewise
	return append([]byte(protobufMagic), out...)
}

// appendField appends a field of protobuf's wire type 2.
func appendField(b []byte, number int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}
