package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"golang.org/x/sys/unix"
)

// records are containerd's databases: one of images and containers, one of each snapshotter. containerd
// commits to them some twenty times for a pod, and waits for the disk each time. What they say of
// containers ends with a reboot anyway, so they live in the state directory, on a tmpfs, where waiting
// takes no time, with links at the places where containerd looks for them. What must outlive a reboot,
// the images, does so in an archive in the root: it is replaced as a whole, and on the disk, after every
// change of an image, every saveInterval if anything changed, and at the end (ADR 0010).
//
// With a state directory that is no tmpfs the databases stay where containerd wants them.
type records struct {
	snapshotter string     // in use
	live        string     // directory of the databases
	archive     string     // their last copy on the disk
	files       []database // the one that containerd always has is the last
	volatile    bool
	log         *slog.Logger

	saved [][]byte // heads of what the archive holds
}

// database is one bolt file.
type database struct {
	name  string // in the live directory and in the archive
	place string // where containerd looks for it
}

const (
	// headSize covers the two pages at the start of a bolt file. A commit changes nothing that the last
	// commit can see but one of them, and that at its very end.
	headSize = 2 * 4096

	// maxCopies bounds how often a copy is begun anew because a commit came in between.
	maxCopies = 100

	// saveInterval is how much of what happened to containers a power cut may take.
	saveInterval = 10 * time.Second
)

func (c Config) records(snapshotter string, log *slog.Logger) (*records, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.State, &fs); err != nil {
		return nil, fmt.Errorf("ask for the file system of %s: %w", c.State, err)
	}
	return &records{
		snapshotter: snapshotter,
		live:        filepath.Join(c.State, "records"),
		archive:     filepath.Join(c.Root, "records.tar"),
		files: []database{
			{name: native + ".db", place: snapshotDB(c.Root, native)},
			{name: overlayfs + ".db", place: snapshotDB(c.Root, overlayfs)},
			{name: "meta.db", place: filepath.Join(c.Root, "io.containerd.metadata.v1.bolt", "meta.db")},
		},
		volatile: fs.Type == unix.TMPFS_MAGIC,
		log:      log,
	}, nil
}

func snapshotDB(root, snapshotter string) string {
	return filepath.Join(root, "io.containerd.snapshotter.v1."+snapshotter, "metadata.db")
}

func (r *records) path(f database) string { return filepath.Join(r.live, f.name) }

// meta is the database that containerd makes first, and that is put into place last: with it all are there.
func (r *records) meta() database { return r.files[len(r.files)-1] }

func (r *records) there(f database) bool {
	_, err := os.Stat(r.path(f))
	return err == nil
}

// place puts the databases where they belong before containerd opens them: those of the predecessor,
// or, after a reboot, those of the archive.
func (r *records) place(ctx context.Context) error {
	if !r.volatile {
		return r.backToRoot()
	}
	if err := os.MkdirAll(r.live, 0o700); err != nil {
		return fmt.Errorf("make the directory of containerd's databases: %w", err)
	}
	moved, err := r.moveIn()
	if err != nil {
		return err
	}
	if moved {
		err = r.save()
	} else if !r.there(r.meta()) {
		err = r.afterReboot(ctx)
	}
	if err != nil {
		return err
	}
	for _, f := range r.files {
		if f != r.meta() && f.name != r.snapshotter+".db" && !r.there(f) {
			continue // a link would say that it has snapshots
		}
		if err := link(r.path(f), f.place); err != nil {
			return err
		}
	}
	return nil
}

// moveIn copies databases that lie in the root as files: of an earlier version, or of a time when the
// state directory was on a disk. They count as long as they are files.
func (r *records) moveIn() (moved bool, err error) {
	for _, f := range r.files {
		info, err := os.Lstat(f.place)
		if err != nil || !info.Mode().IsRegular() {
			continue // what is wrong with it, containerd will say
		}
		if err := copyFile(f.place, r.path(f)); err != nil {
			return false, fmt.Errorf("move containerd's database to %s: %w", r.live, err)
		}
		moved = true
	}
	return moved, nil
}

// backToRoot puts files in the place of links that a daemon with its state on a tmpfs left.
func (r *records) backToRoot() error {
	var links []string
	for _, f := range r.files {
		if _, err := os.Readlink(f.place); err == nil {
			links = append(links, f.place)
		}
	}
	if len(links) == 0 {
		return nil
	}
	if err := r.load(func(f database) string { return f.place }); err != nil {
		return err
	}
	for _, place := range links {
		if _, err := os.Readlink(place); err == nil { // the archive had nothing for it
			if err := os.Remove(place); err != nil {
				return fmt.Errorf("put containerd's databases back into its root: %w", err)
			}
		}
	}
	return nil
}

// save writes the databases to the archive, both as they are at one moment, unless it holds them
// already. containerd may be at work.
func (r *records) save() error {
	if !r.volatile || !r.there(r.meta()) {
		return nil
	}
	if err := r.trySave(); err != nil {
		return fmt.Errorf("save containerd's databases: %w", err)
	}
	return nil
}

func (r *records) trySave() error {
	heads, err := r.heads()
	if err != nil || same(heads, r.saved) {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(r.archive), "records-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	heads, err = r.copyAtRest(temp, heads)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), r.archive); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(r.archive)); err != nil {
		return err
	}
	r.saved = heads
	return nil
}

// copyAtRest copies until no commit came in between, and returns the heads of what it copied.
func (r *records) copyAtRest(to *os.File, before [][]byte) ([][]byte, error) {
	for range maxCopies {
		if err := errors.Join(to.Truncate(0), rewind(to), r.write(to)); err != nil {
			return nil, err
		}
		after, err := r.heads()
		if err != nil || same(before, after) {
			return after, err
		}
		before = after
	}
	return nil, fmt.Errorf("they changed during each of %d copies", maxCopies)
}

func (r *records) write(to io.Writer) error {
	archive := tar.NewWriter(to)
	for _, f := range r.files {
		if err := add(archive, f.name, r.path(f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return archive.Close()
}

// heads reads what changes with every commit; nothing of a database that is not there.
func (r *records) heads() ([][]byte, error) {
	var heads [][]byte
	for _, f := range r.files {
		head, err := headOf(r.path(f))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		heads = append(heads, head)
	}
	return heads, nil
}

func headOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	head := make([]byte, headSize)
	n, err := io.ReadFull(file, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // just made
	}
	return head[:n], errors.Join(err, file.Close())
}

func same(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// afterReboot takes the databases from the archive. One that cannot be used is put aside, loudly: a node
// that pulls its images again is better than one that does not start.
func (r *records) afterReboot(ctx context.Context) error {
	err := r.load(r.path)
	if err == nil {
		if err = r.matchLayers(ctx); err == nil {
			return nil
		}
	}
	r.log.Error("containerd's archive of images cannot be used; they will be pulled again", "err", err, "put aside as", r.archive+".bad")
	errs := []error{os.Rename(r.archive, r.archive+".bad")}
	for _, f := range r.files {
		if err := os.Remove(r.path(f)); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, r.matchLayers(ctx))...)
}

// load writes the databases of the archive, if there is one, to where they belong.
func (r *records) load(to func(database) string) error {
	archive, err := os.Open(r.archive)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load containerd's databases: %w", err)
	}
	defer func() { _ = archive.Close() }()
	for read := tar.NewReader(archive); ; {
		header, err := read.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			i := slices.IndexFunc(r.files, func(f database) bool { return f.name == header.Name })
			if i < 0 {
				continue
			}
			err = writeFile(to(r.files[i]), read)
		}
		if err != nil {
			return fmt.Errorf("load containerd's databases from %s: %w", r.archive, err)
		}
	}
}

// matchLayers removes the layers that no database knows, which are younger than the archive and would be
// in the way of others with their numbers, and makes sure that the others are there. One may be missing
// after a power cut between the removal of an image and the next copy.
func (r *records) matchLayers(ctx context.Context) error {
	for _, f := range r.files[:len(r.files)-1] {
		known := map[string]bool{}
		if r.there(f) {
			var err error
			if known, err = layersOf(ctx, r.path(f)); err != nil {
				return fmt.Errorf("read %s: %w", r.path(f), err)
			}
		}
		dir := filepath.Join(filepath.Dir(f.place), "snapshots")
		present, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("list layers: %w", err)
		}
		for _, layer := range present {
			if _, ok := known[layer.Name()]; !ok {
				if err := removeTree(filepath.Join(dir, layer.Name())); err != nil {
					return err
				}
			}
			delete(known, layer.Name())
		}
		for id, image := range known {
			if image {
				return fmt.Errorf("layer %s of an image is missing in %s", id, dir)
			}
		}
	}
	return nil
}

// layersOf maps the names of the directories of a snapshotter to whether they hold a layer of an image.
func layersOf(ctx context.Context, database string) (map[string]bool, error) {
	store, err := storage.NewMetaStore(database)
	if err != nil {
		return nil, err
	}
	layers := map[string]bool{}
	err = store.WithTransaction(ctx, false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, func(ctx context.Context, info snapshots.Info) error {
			id, _, _, err := storage.GetInfo(ctx, info.Name)
			layers[id] = info.Kind == snapshots.KindCommitted
			return err
		})
	})
	return layers, errors.Join(err, store.Close())
}

// keep saves the databases until ctx ends: after what happens to images, and now and then.
func (r *records) keep(ctx context.Context, images <-chan *events.Envelope) {
	tick := time.NewTicker(saveInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-images:
		case <-tick.C:
		}
		r.saveOrSay()
	}
}

func (r *records) saveOrSay() {
	if err := r.save(); err != nil {
		r.log.Error("images may have to be pulled again after a reboot", "err", err)
	}
}
