package nodelog

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"time"
)

// Bounds of a query, upstream's but for the pattern's.
const (
	maxTail     = 100000
	maxName     = 256
	maxServices = 4
	maxPattern  = 1024
)

// Query is what a client wants to see.
type Query struct {
	// Services are names of units without ".service", or of log files; Files are paths below the log directory.
	Services, Files []string
	// Since and Until bound the time of entries; zero: no bound.
	Since, Until time.Time
	// Tail is how many lines from the end, Boot which start of the machine (0 is this one, -1 the one before); nil: all.
	Tail, Boot *int
	// Pattern is a regular expression that entries match; empty: all.
	Pattern string
}

// Parse reads a query from the parameters of a request; ok is false when there is none. An error says
// which parameter has not the form it must have.
func Parse(values url.Values) (q Query, ok bool, err error) {
	var errs []error
	number := func(name string) *int {
		text := values.Get(name)
		if text == "" {
			return nil
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: must be a number", name, text))
		}
		return &n
	}
	moment := func(name string) time.Time {
		text := values.Get(name)
		if text == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: must be a time such as 2026-01-31T15:04:05Z", name, text))
		}
		return t
	}
	for _, name := range values["query"] {
		switch {
		case strings.ContainsAny(name, `/\`): // as upstream: whoever wants a service's file may leave out the path
			q.Files = append(q.Files, name)
		case strings.TrimSpace(name) != "":
			q.Services = append(q.Services, name)
		}
	}
	if values.Has("query") && len(q.Files)+len(q.Services) == 0 {
		errs = append(errs, errors.New("query: must name a service or a file"))
	}
	q.Since, q.Until = moment("sinceTime"), moment("untilTime")
	q.Tail, q.Boot, q.Pattern = number("tailLines"), number("boot"), values.Get("pattern")
	return q, values.Has("query") || q.optional(), errors.Join(errs...)
}

// optional tells whether a query has more than names.
func (q *Query) optional() bool {
	return q.Tail != nil || q.Boot != nil || q.Pattern != "" || !q.Since.IsZero() || !q.Until.IsZero()
}

// unsafe are the characters that no name of a service has.
var unsafe = regexp.MustCompile(`[^a-zA-Z0-9\-_.:@]`)

// Check says what of a query cannot be answered.
func (q *Query) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, s := range q.Services {
		if len(s) > maxName || unsafe.MatchString(s) {
			bad("query %.*q: the name of a service has up to %d letters, digits and -_.:@", maxName, s, maxName)
		}
	}
	switch {
	case len(q.Services)+len(q.Files) == 0:
		bad("query: must name a service or a file")
	case len(q.Services) > maxServices:
		bad("query: %d services, of %d at the most", len(q.Services), maxServices)
	case len(q.Files) > 0 && len(q.Services) > 0:
		bad("query: either services or a file, not both")
	case len(q.Files) > 1:
		bad("query: one file at a time")
	case len(q.Files) == 1 && q.optional():
		bad("query: a file is given as it is, without other parameters")
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Since.After(q.Until) {
		bad("untilTime: must be after sinceTime")
	}
	if q.Boot != nil && *q.Boot > 0 {
		bad("boot %d: must be 0 for this one, or -1, -2 for those before", *q.Boot)
	}
	if q.Tail != nil && (*q.Tail < 0 || *q.Tail > maxTail) {
		bad("tailLines %d: must be between 0 and %d", *q.Tail, maxTail)
	}
	if len(q.Pattern) > maxPattern || strings.ContainsRune(q.Pattern, 0) {
		bad("pattern: up to %d characters", maxPattern)
	} else if _, err := syntax.Parse(q.Pattern, syntax.Perl); err != nil {
		bad("pattern: %w", err)
	}
	return errors.Join(errs...)
}

// arguments are those of journalctl for some services.
func (q *Query) arguments(services []string) []string {
	args := []string{"--utc", "--no-pager", "--output=short-precise"}
	if !q.Since.IsZero() {
		args = append(args, fmt.Sprintf("--since=@%d", q.Since.Unix()))
	}
	if !q.Until.IsZero() {
		args = append(args, fmt.Sprintf("--until=@%d", q.Until.Unix()))
	}
	if q.Tail != nil {
		args = append(args, fmt.Sprintf("--lines=%d", *q.Tail))
	}
	for _, s := range services {
		args = append(args, "--unit="+s)
	}
	if q.Pattern != "" {
		args = append(args, "--grep="+q.Pattern)
	}
	if q.Boot != nil {
		args = append(args, fmt.Sprintf("--boot=%d", *q.Boot))
	}
	return args
}
