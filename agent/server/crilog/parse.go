package crilog

import (
	"bytes"
	"errors"
	"time"
)

// Stream is one of the two outputs of a container.
type Stream uint8

// The streams.
const (
	Stdout Stream = iota
	Stderr
)

// String is the stream as the log has it.
func (s Stream) String() string { return [...]string{"stdout", "stderr"}[s] }

// Entry is one line of a log file: "2026-01-02T03:04:05.000000006Z stdout F text".
type Entry struct {
	Time   time.Time
	Stream Stream
	// Partial: the line goes on in the next entry of the same stream.
	Partial bool
	// Text without the end of line. It is valid until the next line is read.
	Text []byte
}

var errFormat = errors.New("line is not in the format of a CRI log")

// header is an Entry without its time parsed: cheap enough to look for the end of a log with.
type header struct {
	stamp   []byte
	stream  Stream
	partial bool
	text    []byte
}

// parseHeader splits a line without its end.
func parseHeader(line []byte) (header, error) {
	stamp, rest, ok := bytes.Cut(line, space)
	if !ok || len(stamp) == 0 {
		return header{}, errFormat
	}
	stream, rest, ok := bytes.Cut(rest, space)
	if !ok {
		return header{}, errFormat
	}
	// The text may be missing with its space when the line is empty and somebody trimmed it.
	tags, text, _ := bytes.Cut(rest, space)
	h := header{stamp: stamp, text: text}
	switch string(stream) {
	case "stdout":
	case "stderr":
		h.stream = Stderr
	default:
		return header{}, errFormat
	}
	// Tags are separated by colons and the first says whether the line is whole.
	first, _, _ := bytes.Cut(tags, colon)
	switch string(first) {
	case "F":
	case "P":
		h.partial = true
	default:
		return header{}, errFormat
	}
	return h, nil
}

var space, colon = []byte(" "), []byte(":")

// Parse reads one line of a log without its end.
func Parse(line []byte) (Entry, error) {
	h, err := parseHeader(line)
	if err != nil {
		return Entry{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, string(h.stamp))
	if err != nil {
		return Entry{}, errFormat
	}
	return Entry{Time: t, Stream: h.stream, Partial: h.partial, Text: h.text}, nil
}
