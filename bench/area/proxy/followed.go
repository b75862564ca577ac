package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"nodelet/bench/result"
)

// followMetric is nodelet's own: from the arrival of an event to the last write to the kernel.
const followMetric = "nodelet_proxy_follow_duration_seconds_bucket"

// Changes of which that is taken, and the pause between them: each is alone.
const (
	followChanges = 100
	followEvery   = 50 * time.Millisecond
)

// bucket of a histogram: so many took at most this long, in seconds.
type bucket struct{ le, count float64 }

// followed takes quantiles of how long the kernel is behind the API, from the daemon's histogram.
func (m *turn) followed(ctx context.Context) error {
	if !strings.HasPrefix(m.Who, "nodelet") {
		return nil
	}
	time.Sleep(time.Second) // whatever came before is over
	before, err := buckets()
	if err != nil {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for i := range followChanges {
		if err := m.world.api.Put(m.world.slice((i*7919+1)%(m.Size-2), 2)); err != nil {
			return err
		}
		<-tick.C
	}
	if _, err := m.change(ctx); err != nil { // all of them are in the kernel when this one is
		return err
	}
	after, err := buckets()
	if err != nil {
		return err
	}
	for i := range after {
		after[i].count -= before[i].count
	}
	for name, q := range map[string]float64{follow50: .5, follow99: .99} {
		m.node.Add(m.name(name), m.Who, 1000*quantileOf(after, q))
	}
	return nil
}

// buckets reads the histogram.
func buckets() (out []bucket, err error) {
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://127.0.0.1:10249/metrics")
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		rest, is := strings.CutPrefix(s.Text(), followMetric+`{le="`)
		le, count, ok := strings.Cut(rest, `"} `)
		if !is || !ok {
			continue
		}
		var b bucket
		var errs [2]error
		b.le, errs[0] = strconv.ParseFloat(le, 64)
		b.count, errs[1] = strconv.ParseFloat(count, 64)
		if err := errors.Join(errs[:]...); err != nil {
			return nil, fmt.Errorf("read metric %s: %w", followMetric, err)
		}
		out = append(out, b)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read metrics: there is no %s", followMetric)
	}
	return out, nil
}

// quantileOf takes a quantile from a cumulative histogram, within its bucket by the straight line.
func quantileOf(all []bucket, q float64) float64 {
	want := q * all[len(all)-1].count
	low := bucket{}
	for _, b := range all {
		if b.count >= want && b.count > low.count {
			if math.IsInf(b.le, 1) {
				return low.le
			}
			return low.le + (b.le-low.le)*(want-low.count)/(b.count-low.count)
		}
		low = b
	}
	return 0
}

// derive adds what is known when all turns are over: how the quantile grows with the number of Services.
func derive(a *result.Area) {
	small, large := a.Figure(fmt.Sprintf(follow50, sizes[0])), a.Figure(fmt.Sprintf(follow50, topSize))
	for _, c := range a.Contestants {
		for round := range small.Samples[c.Name] {
			if round < len(large.Samples[c.Name]) && len(small.Samples[c.Name][round]) > 0 && len(large.Samples[c.Name][round]) > 0 {
				_ = a.Add(followGrows, c.Name, round, large.Samples[c.Name][round][0]/small.Samples[c.Name][round][0]) // both are known
			}
		}
	}
}
