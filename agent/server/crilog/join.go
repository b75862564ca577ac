package crilog

import (
	"errors"
	"io"
	"time"
)

// Options choose what is read. The zero value reads all there is once, and throws it away.
type Options struct {
	// Follow goes on until the container has ended or the context has.
	Follow bool
	// TailLines, if not nil, begins that many lines before the end.
	TailLines *int64
	// Since leaves out older lines.
	Since time.Time
	// Timestamps writes the time of each line before it.
	Timestamps bool
	// LimitBytes, if not nil, ends the reading after so many bytes.
	LimitBytes *int64
	// Stdout and Stderr take the lines; nil leaves a stream out. They may be the same.
	Stdout, Stderr io.Writer
}

// stamp is how the time of a line is written: with all nine digits, so that lines are aligned.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// maxJoined bounds a line that is put together; a longer one is given in pieces.
const maxJoined = 256 << 10

// errLimit ends the reading when enough was written.
var errLimit = errors.New("limit of bytes reached")

// joiner puts lines together and writes them.
type joiner struct {
	opts Options
	left int64 // of LimitBytes; < 0 is without limit
	// emitFrom: lines whose last part lies before it are not written.
	emitFrom int64
	open     [2]open
	// cut is the stream of a line of the file that came in pieces, tail whether it is in the middle of one.
	cut      Stream
	cutTag   bool // the tag of that line was P
	inPieces bool
}

// open is a line of one stream of which only parts have come.
type open struct {
	began time.Time
	text  []byte
	is    bool
	// flushed: its beginning has been written already.
	flushed bool
}

func newJoiner(opts Options) *joiner {
	j := &joiner{opts: opts, left: -1}
	if opts.LimitBytes != nil {
		j.left = *opts.LimitBytes
	}
	return j
}

// line takes one line of the file. A line that is no log is left out.
func (j *joiner) line(l rawLine) error {
	if j.inPieces {
		j.inPieces = !l.whole
		return j.part(Entry{Time: j.open[j.cut].began, Stream: j.cut, Partial: !l.whole || j.cutTag, Text: l.data}, l.offset)
	}
	e, err := Parse(l.data)
	if err != nil {
		return nil //nolint:nilerr // garbage in the file is not an error of the reader, and there is nobody to tell
	}
	if !l.whole {
		j.inPieces, j.cut, j.cutTag = true, e.Stream, e.Partial
		e.Partial = true
	}
	return j.part(e, l.offset)
}

// part takes one part of a line.
func (j *joiner) part(e Entry, offset int64) error {
	o := &j.open[e.Stream]
	if !o.is {
		*o = open{began: e.Time, is: true, text: o.text[:0]}
	}
	o.text = append(o.text, e.Text...)
	switch {
	case !e.Partial:
		o.is = false
		if offset < j.emitFrom {
			return nil
		}
		o.text = append(o.text, '\n')
		return j.write(e.Stream, o)
	case len(o.text) >= maxJoined:
		return j.flush(e.Stream, o, offset)
	}
	return nil
}

// flush writes the beginning of a line that has become too long to be kept.
func (j *joiner) flush(s Stream, o *open, offset int64) error {
	if offset < j.emitFrom {
		o.text, o.flushed = o.text[:0], true
		return nil
	}
	err := j.write(s, o)
	o.text, o.flushed = o.text[:0], true
	return err
}

// end writes what is left of lines whose end will never come.
func (j *joiner) end() error {
	for s := range j.open {
		o := &j.open[s]
		if !o.is || len(o.text) == 0 {
			continue
		}
		o.is = false
		if err := j.write(Stream(s), o); err != nil {
			return err
		}
	}
	return nil
}

func (j *joiner) write(s Stream, o *open) error {
	w := j.opts.Stdout
	if s == Stderr {
		w = j.opts.Stderr
	}
	if w == nil || o.began.Before(j.opts.Since) {
		return nil
	}
	text := o.text
	if j.opts.Timestamps && !o.flushed {
		text = append([]byte(o.began.Format(stamp)+" "), text...)
	}
	if j.left >= 0 && int64(len(text)) >= j.left {
		text = text[:j.left]
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if j.left >= 0 {
		j.left -= int64(len(text))
		if j.left == 0 {
			return errLimit
		}
	}
	return nil
}

// newFile says that the next line comes from another file. A line that was cut off by the end of the
// last one is over; one whose next part is to come goes on.
func (j *joiner) newFile() error {
	cut := j.inPieces && !j.cutTag
	j.inPieces, j.emitFrom = false, 0
	if !cut {
		return nil
	}
	return j.part(Entry{Time: j.open[j.cut].began, Stream: j.cut}, 0)
}
