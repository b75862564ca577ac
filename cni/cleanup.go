package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"nodelet/cni/link"
	"nodelet/cni/linkplan"
	"nodelet/cni/ruleset"
	"nodelet/internal/netns"
	"nodelet/internal/nft"
	"nodelet/internal/nl"
	"nodelet/internal/xtables"
)

// thing is one object of ours that is still there: its name, and how to remove it.
type thing struct {
	name   string
	remove func() error
}

// Cleanup removes everything the pod network has ever made on this node:
// links, routes, the table, rules in foreign firewalls, the configuration and
// the state. The daemon and the pods must be stopped. It logs what it removes;
// what could not be removed is in the error, and does not keep the rest from
// being removed. Sysctls stay: other programs may rely on them by now.
func Cleanup(ctx context.Context, cfg Config, log *slog.Logger) error {
	things, err := inventory(ctx, cfg)
	errs := []error{err}
	for _, t := range things {
		if err := t.remove(); err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", t.name, err))
			continue
		}
		log.Info("pod network: removed " + t.name)
	}
	return errors.Join(errs...)
}

// Residue lists what Cleanup would remove.
func Residue(ctx context.Context, cfg Config) ([]string, error) {
	things, err := inventory(ctx, cfg)
	var names []string
	for _, t := range things {
		names = append(names, t.name)
	}
	return names, err
}

// inventory finds what is ours, in the order of removal: the state last, so
// that a Cleanup that is cut short can be repeated.
func inventory(ctx context.Context, cfg Config) (things []thing, err error) {
	var errs []error
	for _, find := range []func(context.Context, Config) ([]thing, error){confFiles, kernelRules, kernelLinks, stateFiles} {
		found, err := find(ctx, cfg)
		things = append(things, found...)
		errs = append(errs, err)
	}
	return things, errors.Join(errs...)
}

func confFiles(_ context.Context, cfg Config) ([]thing, error) {
	things, err := existing(cfg.ConfListPath(), cfg.ConfListPath()+".new")
	cached, err2 := cachedResults(cfg, cacheDir)
	return append(things, cached...), errors.Join(err, err2)
}

// cacheDir is where libcni, on behalf of every runtime that uses it, keeps the
// results of ADD until DEL; containerd has no option for another place.
const cacheDir = "/var/lib/cni"

// cachedResults are those results that this node's plugin has given, which
// show by the state directory in the configuration they were made with, and those of our network
// that a kill has left half written, which are of no use to anybody. The
// directories go when nothing else is in them.
func cachedResults(cfg Config, dir string) (things []thing, err error) {
	results := filepath.Join(dir, "results")
	entries, err := os.ReadDir(results)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cached network results: %w", err)
	}
	if len(entries) == 0 { // libcni made it, and DEL has emptied it
		return []thing{{"empty directory " + results, func() error {
			err := os.Remove(results)
			_ = os.Remove(dir)
			return err
		}}}, nil
	}
	for _, e := range entries {
		path := filepath.Join(results, e.Name())
		text, err := os.ReadFile(path)
		var cached struct {
			Config []byte `json:"config"`
		}
		torn := err == nil && json.Unmarshal(text, &cached) != nil
		ours := bytes.Contains(cached.Config, []byte(strconv.Quote(cfg.StateDir)))
		if ours || torn && strings.HasPrefix(e.Name(), networkName+"-") {
			things = append(things, thing{"file " + path, func() error {
				err := os.Remove(path)
				_, _ = os.Remove(results), os.Remove(dir)
				return err
			}})
		}
	}
	return things, nil
}

// stateFiles are the state directory and the namespaces of sandboxes whose
// runtime is gone without having removed them.
func stateFiles(_ context.Context, cfg Config) ([]thing, error) {
	var things []thing
	leases, err := Attachments(cfg.StateDir)
	for _, l := range leases {
		if l.Netns != "" && netns.Exists(l.Netns) {
			things = append(things, thing{"network namespace " + l.Netns, func() error { return netns.Delete(l.Netns) }})
		}
	}
	files, err2 := existing(cfg.StateDir)
	return append(things, files...), errors.Join(err, err2)
}

func existing(paths ...string) (things []thing, err error) {
	for _, path := range paths {
		_, err := os.Lstat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return things, fmt.Errorf("look for %s: %w", path, err)
		}
		if !filepath.IsAbs(path) || filepath.Clean(path) == "/" {
			return things, fmt.Errorf("refuse to remove %q", path)
		}
		things = append(things, thing{"file " + path, func() error { return os.RemoveAll(path) }})
	}
	return things, nil
}

func kernelLinks(context.Context, Config) (things []thing, err error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	links, err := link.Ours(conn)
	if err != nil {
		return nil, err
	}
	orphans, err := link.Orphans(conn)
	if err != nil {
		return nil, err
	}
	for _, veth := range orphans {
		things = append(things, thing{"link " + linkplan.IfbName(veth), func() error {
			return withConn(func(conn *nl.Conn) error { return link.Remove(conn, veth) })
		}})
	}
	for veth := range links {
		things = append(things, thing{"link " + veth, func() error {
			return withConn(func(conn *nl.Conn) error { return link.Remove(conn, veth) })
		}})
	}
	// Routes onto pods' links go with the links.
	routes, err := nodeRoutes(conn)
	if err != nil {
		return nil, err
	}
	for name, r := range routes {
		things = append(things, thing{"route " + name.String(), func() error {
			return withConn(func(conn *nl.Conn) error { return conn.DeleteRoute(r) })
		}})
	}
	return things, nil
}

func withConn(fn func(*nl.Conn) error) error {
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	return fn(conn)
}

// kernelRules are our table and our accept rules in other programs' chains.
func kernelRules(ctx context.Context, _ Config) ([]thing, error) {
	conn, err := nft.Open(nft.Options{})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	tables, err := conn.Tables(ctx)
	if err != nil {
		return nil, err
	}
	var things []thing
	for _, t := range tables {
		if t == ruleset.Table() {
			things = append(things, thing{"nftables table " + t.String(), func() error { return withNFT(func(c *nft.Conn) error { return c.Delete(ctx, t) }) }})
			continue
		}
		found, err := foreignRules(ctx, conn, t)
		if err != nil {
			return things, err
		}
		things = append(things, found...)
	}
	legacy, err := legacyChains()
	return append(things, legacy...), err
}

func foreignRules(ctx context.Context, conn *nft.Conn, t nft.Table) (things []thing, err error) {
	if t.Family != nft.Inet && t.Family != nft.IPv4 && t.Family != nft.IPv6 {
		return nil, nil
	}
	chains, err := conn.Chains(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if ch.Name == forwardChain {
			if tables := iptablesOf(t, "FORWARD"); tables != nil {
				things = append(things, chainThing(tables))
			}
		}
		if ch.Base == nil || ch.Base.Hook != nft.Forward {
			continue
		}
		rules, err := conn.RulesOf(ctx, t, ch.Name)
		if err != nil {
			return things, err
		}
		for _, r := range rules {
			if r.Comment == foreignComment {
				things = append(things, thing{fmt.Sprintf("rule in nftables %s %s", t, ch.Name), func() error {
					var tx nft.Tx
					tx.DeleteRule(t, ch.Name, r.Handle)
					return withNFT(func(c *nft.Conn) error { return c.Apply(ctx, &tx) })
				}})
			}
		}
	}
	return things, nil
}

func legacyChains() (things []thing, err error) {
	for _, v6 := range []bool{false, true} {
		if !xtables.InUse("filter", v6) {
			continue
		}
		tables, err := xtables.Open(xtables.Legacy, v6)
		if errors.Is(err, xtables.ErrNotInstalled) {
			continue // then we have not made any either
		}
		if err != nil {
			return things, err
		}
		chains, err := tables.Chains("filter")
		if err != nil {
			return things, err
		}
		for _, ch := range chains {
			if ch == forwardChain {
				things = append(things, chainThing(tables))
			}
		}
	}
	return things, nil
}

func chainThing(tables *xtables.Tables) thing {
	return thing{tables.String() + " chain " + forwardChain, func() error {
		_, err := tables.RemoveChain("filter", "FORWARD", forwardChain)
		return err
	}}
}

func withNFT(fn func(*nft.Conn) error) error {
	conn, err := nft.Open(nft.Options{})
	if err != nil {
		return err
	}
	defer conn.Close()
	return fn(conn)
}
