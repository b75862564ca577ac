package crilog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A runtime goes on writing into the old file for a moment after it has made the new one: it opens the
// new one first, then moves the streams over, one after the other. The kernel tells whether a file is
// open for writing; where it does not, settle has to be enough. patience bounds the wait for a runtime
// that never closes it.
const (
	settle   = 100 * time.Millisecond
	glance   = 5 * time.Millisecond
	patience = 5 * time.Second
)

// look is how often a file is looked at when inotify has nothing to tell: a limit of the kernel may
// be reached, or a file system may not tell.
const look = 2 * time.Second

// Log is one log of a container.
type Log struct {
	// Root is the directory that all logs are below: nothing outside it is read.
	Root string
	// Path is the log's file, absolute.
	Path string
	// Ended is closed when the container will write no more; nil means that it has ended already.
	Ended <-chan struct{}
	// Idle, if not nil, is called when all there is was given: a good time to flush.
	Idle func() error
}

// Reader reads logs. One Reader serves all.
type Reader struct {
	watcher *watcher
}

// NewReader makes a Reader. Without inotify it looks at the files from time to time.
func NewReader() *Reader { return &Reader{watcher: newWatcher()} }

// Close ends the watching of directories; readers that follow go on by looking.
func (r *Reader) Close() error { return r.watcher.close() }

// Read gives the lines of a log to the writers of opts. With Follow it blocks until the container or
// ctx has ended; both are no errors.
func (r *Reader) Read(ctx context.Context, log Log, opts Options) error {
	c, err := openChain(log)
	if err != nil {
		return err
	}
	defer c.dir.Close()
	s := &session{log: log, chain: c, join: newJoiner(opts), follow: opts.Follow}
	if opts.Follow {
		var stop func()
		s.news, stop = r.watcher.watch(filepath.Dir(log.Path))
		defer stop()
	}
	err = s.run(ctx, opts.TailLines)
	if s.file != nil {
		err = errors.Join(err, s.file.Close())
	}
	switch {
	case errors.Is(err, errLimit), ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return nil
	case err != nil:
		return fmt.Errorf("read log %s: %w", log.Path, err)
	}
	return nil
}

// openChain opens the directory of a log without following a symbolic link out of the root.
func openChain(log Log) (*chain, error) {
	rel, err := filepath.Rel(log.Root, log.Path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return nil, fmt.Errorf("read log %s: it is not below %s", log.Path, log.Root)
	}
	root, err := os.OpenRoot(log.Root)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer root.Close()
	dir, err := root.OpenRoot(filepath.Dir(rel))
	if err != nil {
		return nil, fmt.Errorf("read log %s: %w", log.Path, err)
	}
	return &chain{dir: dir, base: filepath.Base(rel)}, nil
}

// session is one reading of one log.
type session struct {
	log    Log
	chain  *chain
	join   *joiner
	follow bool
	news   <-chan struct{}
	file   *source
	lines  *lines
}

func (s *session) run(ctx context.Context, tailLines *int64) error {
	if err := s.begin(ctx, tailLines); err != nil || s.file == nil {
		return err
	}
	for {
		over := s.over(ctx) // before reading on: what was written until then is read below
		if err := s.drain(ctx); err != nil {
			return err
		}
		if !s.follow {
			return s.finish()
		}
		next, ok, err := s.chain.after(s.file.File)
		switch {
		case err != nil:
			return err
		case ok:
			if err := s.change(ctx, next); err != nil {
				return err
			}
			continue
		case over:
			return s.finish()
		}
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
}

// begin opens the log and goes to where reading starts. Without a file there is nothing to read; it
// is waited for when the container may yet write one.
func (s *session) begin(ctx context.Context, tailLines *int64) error {
	for {
		over := s.over(ctx)
		f, err := s.chain.open()
		if errors.Is(err, fs.ErrNotExist) && s.follow && !over {
			if err := s.wait(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		s.file = &source{File: f, r: f}
		s.lines = &lines{r: f}
		if tailLines == nil {
			return nil
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		start, emitFrom, err := tail(f, info.Size(), *tailLines)
		if err != nil {
			return err
		}
		if _, err := f.Seek(start, io.SeekStart); err != nil {
			return err
		}
		s.lines.offset, s.join.emitFrom = start, emitFrom
		return nil
	}
}

// over tells whether nothing more will be written.
func (s *session) over(ctx context.Context) bool {
	if s.log.Ended == nil || ctx.Err() != nil {
		return true
	}
	select {
	case <-s.log.Ended:
		return true
	default:
		return false
	}
}

// drain reads to the end of the present file.
func (s *session) drain(ctx context.Context) error {
	for n := 0; ; n++ {
		if n%256 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		l, err := s.lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.join.line(l); err != nil {
			return err
		}
	}
}

// change goes over to the next file.
func (s *session) change(ctx context.Context, next successor) error {
	if next.current && !s.over(ctx) {
		if err := awaitWriter(ctx, s.file.File); err != nil {
			return err
		}
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	if err := s.leftover(); err != nil {
		return err
	}
	if err := s.join.newFile(); err != nil {
		return err
	}
	f, err := s.chain.openAfter(s.file.File)
	if err != nil || f == nil {
		return err
	}
	src, err := newSource(f)
	if err != nil {
		return err
	}
	if err := s.file.Close(); err != nil {
		return errors.Join(err, src.Close())
	}
	s.file, s.lines = src, &lines{r: src}
	return nil
}

// leftover hands on what stands at the end of a file without an end of line.
func (s *session) leftover() error {
	if l, ok := s.lines.rest(); ok {
		return s.join.line(l)
	}
	return nil
}

func (s *session) finish() error {
	if err := s.leftover(); err != nil {
		return err
	}
	if err := s.join.end(); err != nil {
		return err
	}
	return s.idle()
}

func (s *session) idle() error {
	if s.log.Idle == nil {
		return nil
	}
	return s.log.Idle()
}

// wait waits for news of the directory, the end of the container, or a while.
func (s *session) wait(ctx context.Context) error {
	if err := s.idle(); err != nil {
		return err
	}
	timer := time.NewTimer(look)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.news:
	case <-s.log.Ended:
	case <-timer.C:
	}
	return nil
}

// awaitWriter waits until nobody has f open for writing.
func awaitWriter(ctx context.Context, f *os.File) error {
	for waited := time.Duration(0); waited < patience; waited += glance {
		switch written, known := openForWriting(f); {
		case !known:
			return pause(ctx, settle)
		case !written:
			return nil
		}
		if err := pause(ctx, glance); err != nil {
			return err
		}
	}
	return nil
}

// openForWriting asks the kernel whether anybody has f open for writing: only without a writer it
// gives a read lease (fcntl(2)), which is given back at once. Not every file system has leases.
func openForWriting(f *os.File) (written, known bool) {
	raw, err := f.SyscallConn()
	if err != nil {
		return false, false
	}
	var leaseErr error
	err = raw.Control(func(fd uintptr) {
		if _, leaseErr = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK); leaseErr == nil {
			_, leaseErr = unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
		}
	})
	if err != nil {
		return false, false
	}
	written = errors.Is(leaseErr, unix.EAGAIN)
	return written, written || leaseErr == nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
