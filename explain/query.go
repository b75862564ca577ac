package explain

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"nodelet/internal/model"
)

// PlaceKind is what one end of a Query is.
type PlaceKind string

// The kinds of places.
const (
	PlacePod       PlaceKind = "pod"
	PlaceService   PlaceKind = "svc"
	PlaceIP        PlaceKind = "ip"
	PlaceNode      PlaceKind = "node"
	PlaceOutside   PlaceKind = "outside"
	PlaceLocalhost PlaceKind = "localhost"
	PlaceNodePort  PlaceKind = "nodeport"
	// PlaceName is a bare name: a pod as source, a DNS name, Service or pod as destination.
	PlaceName PlaceKind = "name"
)

// Place is one end of a Query as the user wrote it.
type Place struct {
	Kind PlaceKind
	// Key is that of a pod or Service; Name a bare or DNS name.
	Key  model.Key
	Name string
	Addr netip.Addr
	// Port or PortName is what stands behind the colon.
	Port     uint16
	PortName string
	// Device is the interface a packet from outside comes in by, from ADDR@DEVICE.
	Device string
	// Proto is what stands behind the last slash; 0 when nothing does.
	Proto model.Protocol
}

// Query is the question.
type Query struct {
	Text     string
	From, To Place
}

// Usage is the form of a question, for messages.
const Usage = "nodelet explain SRC DST[:PORT][/udp], or quoted: nodelet explain 'SRC -> DST[:PORT][/udp]'; " +
	"SRC and DST are pod/NAMESPACE/NAME, svc/NAMESPACE/NAME, an address, node, outside, localhost or nodeport:N"

// Parse reads "SRC -> DST", "SRC to DST" or the two as words of their own.
func Parse(words ...string) (Query, error) {
	fields := strings.Fields(strings.Join(words, " "))
	text := strings.Join(fields, " ")
	if len(fields) == 3 && (fields[1] == "->" || fields[1] == "to") {
		fields = []string{fields[0], fields[2]}
	}
	switch {
	case len(fields) == 2 && fields[1] == "-", len(fields) == 3 && fields[1] == "-":
		return Query{}, fmt.Errorf("parse question %q: the shell took '>' for itself: quote the question, or leave the arrow out (%s)", text, Usage)
	case len(fields) != 2:
		return Query{}, fmt.Errorf("parse question %q: one source and one destination are needed (%s)", text, Usage)
	}
	q := Query{Text: fields[0] + " -> " + fields[1]}
	var err error
	if q.From, err = parsePlace(fields[0]); err != nil {
		return Query{}, fmt.Errorf("parse source %q: %w", fields[0], err)
	}
	if q.To, err = parsePlace(fields[1]); err != nil {
		return Query{}, fmt.Errorf("parse destination %q: %w", fields[1], err)
	}
	switch {
	case q.From.Kind == PlaceService || q.From.Kind == PlaceNodePort:
		return Query{}, fmt.Errorf("parse source %q: a Service sends no packets; name a pod, node, outside or an address", fields[0])
	case q.From.Proto != 0 || q.From.PortName != "":
		return Query{}, fmt.Errorf("parse source %q: ports and protocols belong to the destination", fields[0])
	}
	return q, nil
}

var protocols = map[string]model.Protocol{"tcp": model.TCP, "udp": model.UDP, "sctp": model.SCTP}

func parsePlace(text string) (Place, error) {
	rest, p := cutProtocol(text)
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		if rest, p.Device = rest[:at], rest[at+1:]; p.Device == "" || len(p.Device) > 15 || strings.ContainsAny(p.Device, "/ ") {
			return p, fmt.Errorf("%q is no name of an interface", p.Device)
		}
	}
	if a, err := netip.ParseAddr(strings.Trim(rest, "[]")); err == nil {
		p.Kind, p.Addr = PlaceIP, a.Unmap().WithZone("")
		return p, nil
	}
	name, err := p.cutPort(rest)
	if err != nil {
		return p, err
	}
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		p.Kind, p.Addr = PlaceIP, a.Unmap().WithZone("")
		return p, nil
	}
	return p.named(name)
}

// cutProtocol takes "/udp" off the end of what has a port; "pod/default/udp" is a pod.
func cutProtocol(text string) (string, Place) {
	at := strings.LastIndexByte(text, '/')
	if at >= 0 && strings.Contains(text[:at], ":") {
		if proto, ok := protocols[strings.ToLower(text[at+1:])]; ok {
			return text[:at], Place{Proto: proto}
		}
	}
	return text, Place{}
}

func (p *Place) cutPort(text string) (name string, err error) {
	name, port, ok := strings.Cut(text, ":")
	if strings.HasPrefix(text, "[") {
		name, port, ok = strings.Cut(text, "]:")
	}
	if !ok {
		return text, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	switch {
	case err == nil && n > 0:
		p.Port = uint16(n)
	case err == nil, port == "", port[0] == '-', strings.ContainsAny(port, ":/ []"), port[0] >= '0' && port[0] <= '9':
		return name, fmt.Errorf("%q is no port: 1 to 65535, or the name of a Service's port", port)
	default:
		p.PortName = port
	}
	return name, nil
}

// named reads what stands before the port.
func (p Place) named(name string) (Place, error) {
	parts := strings.Split(name, "/")
	for _, part := range parts {
		if part == "" {
			return p, fmt.Errorf("a name is missing (%s)", Usage)
		}
	}
	key := func(parts []string) (model.Key, error) {
		switch len(parts) {
		case 1:
			return model.Key{Namespace: "default", Name: parts[0]}, nil
		case 2:
			return model.Key{Namespace: parts[0], Name: parts[1]}, nil
		}
		return model.Key{}, fmt.Errorf("want NAMESPACE/NAME behind the kind")
	}
	var err error
	switch word := strings.ToLower(parts[0]); {
	case len(parts) > 1 && (word == "pod" || word == "pods" || word == "po"):
		p.Kind = PlacePod
		p.Key, err = key(parts[1:])
	case len(parts) > 1 && (word == "svc" || word == "service" || word == "services"):
		p.Kind = PlaceService
		p.Key, err = key(parts[1:])
	case len(parts) == 1 && (word == "node" || word == "outside" || word == "localhost" || word == "nodeport"):
		p.Kind = PlaceKind(word)
	case len(parts) <= 2:
		p.Kind, p.Name = PlaceName, name
		p.Key, err = key(parts)
	default:
		err = fmt.Errorf("unknown kind %q: pod or svc", parts[0])
	}
	if err == nil && p.Kind == PlaceNodePort && p.Port == 0 {
		err = fmt.Errorf("want nodeport:NUMBER")
	}
	return p, err
}
