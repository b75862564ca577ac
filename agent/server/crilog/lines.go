package crilog

import (
	"bytes"
	"io"
)

const (
	// chunk is how much is read at a time.
	chunk = 32 << 10
	// maxRaw bounds a line of the file. containerd cuts lines at 16 KiB unless told otherwise;
	// what is longer is handed on in pieces.
	maxRaw = 1 << 20
)

// rawLine is one line of a file, or a piece of one.
type rawLine struct {
	data []byte
	// offset is where it begins in the file.
	offset int64
	// whole: it ends with an end of line, which is not in data.
	whole bool
}

// lines cuts a file into lines. It may be read on after io.EOF when the file has grown.
type lines struct {
	r      io.Reader
	buf    []byte
	start  int   // of the unread part of buf
	offset int64 // of buf[start] in the file
}

// next gives the next line. A line without an end is kept until it has one, or is longer than
// maxRaw, or rest asks for it.
func (l *lines) next() (rawLine, error) {
	from := l.start // where to look for the end of line: what was looked at before is skipped
	for {
		if i := bytes.IndexByte(l.buf[from:], '\n'); i >= 0 {
			return l.take(from+i, true), nil
		}
		from = len(l.buf)
		if len(l.buf)-l.start >= maxRaw {
			return l.take(len(l.buf), false), nil
		}
		from -= l.makeRoom()
		n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
		l.buf = l.buf[:len(l.buf)+n]
		if n == 0 {
			if err == nil {
				err = io.ErrNoProgress
			}
			return rawLine{}, err
		}
	}
}

// rest gives what is left at the end of a file without an end of line; false when there is nothing.
func (l *lines) rest() (rawLine, bool) {
	if l.start == len(l.buf) {
		return rawLine{}, false
	}
	return l.take(len(l.buf), false), true
}

// take gives the unread part of buf up to end.
func (l *lines) take(end int, whole bool) rawLine {
	line := rawLine{data: l.buf[l.start:end], offset: l.offset, whole: whole}
	next := end
	if whole {
		next++
	}
	l.offset += int64(next - l.start)
	l.start = next
	return line
}

// makeRoom lets at least one chunk be read; it gives by how much the content of buf has moved.
func (l *lines) makeRoom() (moved int) {
	if l.start > 0 {
		moved = l.start
		l.buf = l.buf[:copy(l.buf, l.buf[l.start:])]
		l.start = 0
	}
	if cap(l.buf)-len(l.buf) < chunk {
		bigger := make([]byte, len(l.buf), max(2*cap(l.buf), len(l.buf)+chunk))
		copy(bigger, l.buf)
		l.buf = bigger
	}
	return moved
}
