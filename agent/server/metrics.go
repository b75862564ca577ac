package server

import (
	"context"
	"net/http"
	"runtime"
	"time"

	"nodelet/internal/metrics"
)

// scrapeTimeout bounds what a scrape may wait for the container runtime.
const scrapeTimeout = 5 * time.Second

// resourceMetrics is /metrics/resource: what the metrics server reads.
func (s *Server) resourceMetrics() http.Handler {
	d := func(name, help string, counter bool, labels ...string) *metrics.Desc {
		return &metrics.Desc{Name: name, Help: help, Counter: counter, Labels: labels}
	}
	container, pod := []string{"container", "pod", "namespace"}, []string{"pod", "namespace"}
	var (
		nodeCPU  = d("node_cpu_usage_seconds_total", "CPU time used by the node in core-seconds.", true)
		nodeMem  = d("node_memory_working_set_bytes", "Working set of the node.", false)
		ctrCPU   = d("container_cpu_usage_seconds_total", "CPU time used by the container in core-seconds.", true, container...)
		ctrMem   = d("container_memory_working_set_bytes", "Working set of the container.", false, container...)
		ctrStart = d("container_start_time_seconds", "When the container started, in seconds since 1970.", false, container...)
		podCPU   = d("pod_cpu_usage_seconds_total", "CPU time used by the pod in core-seconds.", true, pod...)
		podMem   = d("pod_memory_working_set_bytes", "Working set of the pod.", false, pod...)
		failed   = d("resource_scrape_error", "1 if something could not be measured.", false)
		oldName  = d("scrape_error", "1 if something could not be measured. Deprecated name.", false)
	)
	reg := metrics.New()
	reg.OnScrape(func(e *metrics.Emitter) {
		all := s.scrape()
		if u := all.node; u != nil {
			e.ValueAt(nodeCPU, u.CPU.Seconds(), u.At)
			e.ValueAt(nodeMem, float64(u.WorkingSet), u.At)
		}
		for _, p := range all.pods {
			if u := p.usage; u != nil {
				e.ValueAt(podCPU, u.CPU.Seconds(), u.At, p.pod.Name, p.pod.Namespace)
				e.ValueAt(podMem, float64(u.WorkingSet), u.At, p.pod.Name, p.pod.Namespace)
			}
			for _, c := range p.containers {
				labels := []string{c.container.Name, p.pod.Name, p.pod.Namespace}
				e.Value(ctrStart, seconds(c.container.Started), labels...)
				if u := c.usage; u != nil {
					e.ValueAt(ctrCPU, u.CPU.Seconds(), u.At, labels...)
					e.ValueAt(ctrMem, float64(u.WorkingSet), u.At, labels...)
				}
			}
		}
		e.Value(failed, flag(all.failed))
		e.Value(oldName, flag(all.failed))
	}, nodeCPU, nodeMem, ctrCPU, ctrMem, ctrStart, podCPU, podMem, failed, oldName)
	return reg.Handler()
}

func (s *Server) scrape() nodeUsage {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	return s.measure(ctx)
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// cadvisorMetrics is /metrics/cadvisor: the names that dashboards know.
func (s *Server) cadvisorMetrics() http.Handler {
	labels := []string{"container", "id", "image", "name", "namespace", "pod"}
	d := func(name, help string, counter bool) *metrics.Desc {
		return &metrics.Desc{Name: name, Help: help, Counter: counter, Labels: labels}
	}
	c := &cadvisor{
		cpu:       &metrics.Desc{Name: "container_cpu_usage_seconds_total", Help: "CPU time used in seconds.", Counter: true, Labels: append([]string{"cpu"}, labels...)},
		workSet:   d("container_memory_working_set_bytes", "Memory that cannot be reclaimed at once.", false),
		memory:    d("container_memory_usage_bytes", "Memory used.", false),
		rss:       d("container_memory_rss", "Anonymous memory.", false),
		limit:     d("container_spec_memory_limit_bytes", "Memory limit, 0 for none.", false),
		started:   d("container_start_time_seconds", "When it started, in seconds since 1970.", false),
		seen:      d("container_last_seen", "When it was last measured, in seconds since 1970.", false),
		tasks:     d("container_processes", "Tasks.", false),
		ooms:      d("container_oom_events_total", "Processes killed for the memory limit.", true),
		periods:   d("container_cpu_cfs_periods_total", "Periods of the CPU limit.", true),
		throttled: d("container_cpu_cfs_throttled_periods_total", "Periods in which the CPU limit was reached.", true),
		lost:      d("container_cpu_cfs_throttled_seconds_total", "Time lost to the CPU limit in seconds.", true),
		cores:     &metrics.Desc{Name: "machine_cpu_cores", Help: "CPUs of the machine."},
		total:     &metrics.Desc{Name: "machine_memory_bytes", Help: "Memory of the machine."},
	}
	reg := metrics.New()
	reg.OnScrape(func(e *metrics.Emitter) { c.collect(e, s.scrape()) },
		c.cpu, c.workSet, c.memory, c.rss, c.limit, c.started, c.seen, c.tasks, c.ooms, c.periods, c.throttled, c.lost, c.cores, c.total)
	return reg.Handler()
}

// cadvisor is the metrics of /metrics/cadvisor.
type cadvisor struct {
	cpu, workSet, memory, rss, limit, started, seen, tasks, ooms, periods, throttled, lost *metrics.Desc
	cores, total                                                                           *metrics.Desc
}

func (c *cadvisor) collect(e *metrics.Emitter, all nodeUsage) {
	e.Value(c.cores, float64(runtime.NumCPU()))
	e.Value(c.total, float64(totalMemory()))
	if all.node != nil {
		c.one(e, containerUsage{cgroup: "/", usage: all.node}, time.Time{}, []string{"", "/", "", "", "", ""})
	}
	for _, p := range all.pods {
		if p.usage != nil {
			c.one(e, containerUsage{usage: p.usage}, p.started, []string{"", p.cgroup, "", "", p.pod.Namespace, p.pod.Name})
		}
		for _, ctr := range p.containers {
			if ctr.usage != nil {
				c.one(e, ctr, ctr.container.Started, []string{ctr.container.Name, ctr.cgroup, ctr.container.Image, ctr.container.ID, p.pod.Namespace, p.pod.Name})
			}
		}
	}
}

func (c *cadvisor) one(e *metrics.Emitter, ctr containerUsage, started time.Time, labels []string) {
	u := ctr.usage
	e.ValueAt(c.cpu, u.CPU.Seconds(), u.At, append([]string{"total"}, labels...)...)
	e.ValueAt(c.workSet, float64(u.WorkingSet), u.At, labels...)
	e.ValueAt(c.memory, float64(u.Memory), u.At, labels...)
	e.ValueAt(c.rss, float64(u.RSS), u.At, labels...)
	e.ValueAt(c.tasks, float64(u.PIDs), u.At, labels...)
	e.ValueAt(c.ooms, float64(u.OOMKills), u.At, labels...)
	e.Value(c.limit, float64(u.MemoryLimit), labels...)
	e.Value(c.seen, seconds(u.At), labels...)
	if !started.IsZero() {
		e.Value(c.started, seconds(started), labels...)
	}
	if u.Throttled.Periods > 0 {
		e.ValueAt(c.periods, float64(u.Throttled.Periods), u.At, labels...)
		e.ValueAt(c.throttled, float64(u.Throttled.ThrottledPeriods), u.At, labels...)
		e.ValueAt(c.lost, u.Throttled.Time.Seconds(), u.At, labels...)
	}
}
