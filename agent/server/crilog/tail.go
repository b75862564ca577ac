package crilog

import (
	"bytes"
	"io"
)

const (
	// tailBlock is how much is read at a time, from the end.
	tailBlock = 64 << 10
	// tailSlack bounds how far before the tail the beginning of a line is looked for whose parts lie
	// between those of the other stream.
	tailSlack = 256 << 10
	// headerSize is more than stamp, stream and tag take.
	headerSize = 96
)

// tail finds where the last n lines of a file begin: reading must start at start, and lines whose
// last part lies before emitFrom are not among them.
func tail(f io.ReaderAt, size, n int64) (start, emitFrom int64, err error) {
	t := tailer{want: n, start: size, emitFrom: size}
	err = backwards(f, size, t.entry)
	return t.start, t.emitFrom, err
}

// tailer looks at entries from the last to the first.
type tailer struct {
	want            int64
	start, emitFrom int64
	closed          [2]bool // the stream has no line that reaches over emitFrom
	found           bool    // emitFrom is known
}

// entry looks at one line of the file; it returns false when enough is known.
func (t *tailer) entry(line []byte, offset int64) bool {
	if !t.found && t.want == 0 {
		t.found = true
	}
	h, err := parseHeader(line)
	if err != nil {
		return true
	}
	switch {
	case h.partial:
		if !t.closed[h.stream] {
			t.start = offset
		}
	case t.found:
		t.closed[h.stream] = true
	default:
		t.want--
		t.start, t.emitFrom = offset, offset
	}
	if !t.found {
		return true
	}
	allClosed := t.closed[Stdout] && t.closed[Stderr]
	return !allClosed && t.emitFrom-offset < tailSlack
}

// backwards calls fn for each line of a file, the last one first, until it returns false. A line may
// be given without its end when it is longer than a block.
func backwards(f io.ReaderAt, size int64, fn func(line []byte, offset int64) bool) error {
	buf := make([]byte, tailBlock+headerSize)
	end := size // of what has not been looked at yet
	lineEnd := size
	for end > 0 {
		begin := max(end-tailBlock, 0)
		// A few bytes more than the block, so that a line that begins at its end shows its header.
		n, err := f.ReadAt(buf[:min(end-begin+headerSize, size-begin)], begin)
		if err != nil && err != io.EOF {
			return err
		}
		if int64(n) < end-begin {
			return io.ErrUnexpectedEOF // the file was cut while we read it
		}
		block := buf[:n]
		for at := end - begin; ; {
			i := int64(bytes.LastIndexByte(block[:at], '\n'))
			lineStart := begin + i + 1
			if i < 0 && begin > 0 {
				break // the line begins in an earlier block
			}
			if lineStart < lineEnd && !fn(block[i+1:min(lineEnd-begin, int64(n))], lineStart) {
				return nil
			}
			if i < 0 {
				return nil
			}
			at, lineEnd = i, begin+i
		}
		end = begin
	}
	return nil
}
