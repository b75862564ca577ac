package nodelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"time"
)

const (
	// copyLimit is how long one query may take; upstream's.
	copyLimit = 30 * time.Second
	// parallel bounds the queries that run at a time: each is a program that reads the whole journal.
	parallel = 4
)

// ErrBusy says that too many queries are under way.
var ErrBusy = errors.New("too many queries for logs at a time: try again later")

// Config is where logs are.
type Config struct {
	// Dir is the log directory, /var/log; Journalctl is the program, found by PATH when it has no slash.
	Dir, Journalctl string
	// Aliases are other names of units, for services that the journal does not know: kubelet is nodelet here.
	Aliases map[string]string
}

// Reader reads logs.
type Reader struct {
	cfg   Config
	slots chan struct{}
}

// New touches nothing.
func New(cfg Config) *Reader { return &Reader{cfg: cfg, slots: make(chan struct{}, parallel)} }

// Copy writes the logs that a checked query for services wants. What goes wrong is written as well,
// as upstream does: the answer has begun by then. ErrBusy comes before anything is written.
func (r *Reader) Copy(ctx context.Context, w io.Writer, q Query) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	journal, files := r.split(ctx, q.Services)
	if len(journal) > 0 {
		r.copyJournal(ctx, w, q.arguments(journal))
	}
	switch {
	case len(files) == 0:
	case q.optional():
		_, _ = fmt.Fprintf(w, "\noptions present and query resolved to log files for %v\ntry without specifying options\n", files)
	default:
		r.copyFiles(ctx, w, files)
	}
	return nil
}

// split tells services that write to the journal from others.
func (r *Reader) split(ctx context.Context, services []string) (journal, files []string) {
	known, err := r.journalctl(ctx, "--field=_SYSTEMD_UNIT").Output()
	if err != nil {
		return nil, services // no journal on this machine
	}
	units := bytes.Fields(known)
	has := func(service string) bool {
		return slices.ContainsFunc(units, func(u []byte) bool { return string(u) == service+".service" || string(u) == service })
	}
	for _, s := range services {
		alias := r.cfg.Aliases[s]
		switch {
		case has(s):
			journal = append(journal, s)
		case alias != "" && has(alias):
			journal = append(journal, alias)
		default:
			files = append(files, s)
		}
	}
	return journal, files
}

// journalctl is the program with arguments, in an environment that says nothing but where programs are.
func (r *Reader) journalctl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, r.cfg.Journalctl, args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	cmd.WaitDelay = time.Second
	return cmd
}

func (r *Reader) copyJournal(ctx context.Context, w io.Writer, args []string) {
	cmd := r.journalctl(ctx, args...)
	cmd.Stdout, cmd.Stderr = w, w
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) { // what the program has to say it has said
		_, _ = fmt.Fprintf(w, "\nerror: journal output not available\n")
	}
}

// copyFiles writes the file of each service: NAME, NAME.log or NAME/NAME.log.
func (r *Reader) copyFiles(ctx context.Context, w io.Writer, services []string) {
	root, err := os.OpenRoot(r.cfg.Dir)
	if err != nil {
		_, _ = fmt.Fprintf(w, "\nerror: no logs: %v\n", err)
		return
	}
	defer root.Close()
	for _, s := range services {
		err := fs.ErrNotExist
		for _, name := range []string{s, s + ".log", s + "/" + s + ".log"} {
			if err = copyFile(ctx, w, root, name); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			_, _ = fmt.Fprintf(w, "\nlog not found for %s\n", s)
		case err != nil:
			_, _ = fmt.Fprintf(w, "\nerror getting log for %s: %v\n", s, err)
		}
	}
}

// copyFile writes an ordinary file; anything else is as good as none.
func copyFile(ctx context.Context, w io.Writer, root *os.Root, name string) error {
	info, err := root.Stat(name)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for somebody to write
		return fs.ErrNotExist
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, until{ctx, f})
	return err
}

// until reads until a context ends.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u until) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}
