package server

import (
	"net/http"
	"runtime"
	"slices"
	"strings"
	"time"

	"nodelet/agent/stats"
	"nodelet/internal/cgroup"
	"nodelet/internal/metrics"
)

// The names that dashboards know from cAdvisor, with what each of them is.

// labels are on every metric of a cgroup; some have one more, before them.
var cadvisorLabels = []string{"container", "id", "image", "name", "namespace", "pod"}

// usageMetric is a figure that every cgroup has.
type usageMetric struct {
	name, help string
	counter    bool
	read       func(u *cgroup.Usage) float64
	// when tells whether there is something to show; nil means always.
	when func(u *cgroup.Usage) bool
}

func quotaSet(u *cgroup.Usage) bool  { return u.Spec.Quota > 0 }
func throttled(u *cgroup.Usage) bool { return u.Throttled.Periods > 0 }
func pressed(u *cgroup.Usage) bool   { return u.Pressure != nil }

// usageMetrics are the figures that have no label beside those of the cgroup.
func usageMetrics() []usageMetric {
	size := func(name, help string, read func(u *cgroup.Usage) uint64) usageMetric {
		return usageMetric{name: name, help: help, read: func(u *cgroup.Usage) float64 { return float64(read(u)) }}
	}
	count := func(name, help string, read func(u *cgroup.Usage) uint64) usageMetric {
		m := size(name, help, read)
		m.counter = true
		return m
	}
	elapsed := func(name, help string, read func(u *cgroup.Usage) time.Duration) usageMetric {
		return usageMetric{name: name, help: help, counter: true, read: func(u *cgroup.Usage) float64 { return read(u).Seconds() }}
	}
	all := []usageMetric{
		elapsed("container_cpu_user_seconds_total", "CPU time used outside of the kernel in seconds.", func(u *cgroup.Usage) time.Duration { return u.CPUUser }),
		elapsed("container_cpu_system_seconds_total", "CPU time used in the kernel in seconds.", func(u *cgroup.Usage) time.Duration { return u.CPUSystem }),
		size("container_memory_working_set_bytes", "Memory that cannot be reclaimed at once.", func(u *cgroup.Usage) uint64 { return u.WorkingSet }),
		size("container_memory_usage_bytes", "Memory used.", func(u *cgroup.Usage) uint64 { return u.Memory }),
		size("container_memory_max_usage_bytes", "The most memory ever used.", func(u *cgroup.Usage) uint64 { return u.Peak }),
		size("container_memory_rss", "Anonymous memory.", func(u *cgroup.Usage) uint64 { return u.RSS }),
		size("container_memory_cache", "Page cache.", func(u *cgroup.Usage) uint64 { return u.Cache }),
		size("container_memory_mapped_file", "Mapped files.", func(u *cgroup.Usage) uint64 { return u.Mapped }),
		size("container_memory_kernel_usage", "Memory of the kernel.", func(u *cgroup.Usage) uint64 { return u.Kernel }),
		size("container_memory_swap", "Swap used.", func(u *cgroup.Usage) uint64 { return u.Swap }),
		size("container_spec_memory_limit_bytes", "Memory limit, 0 for none.", func(u *cgroup.Usage) uint64 { return u.MemoryLimit }),
		size("container_spec_cpu_period", "Period of the CPU limit in microseconds.", func(u *cgroup.Usage) uint64 { return u.Spec.Period }),
		size("container_spec_cpu_shares", "Weight of the CPU in shares.", func(u *cgroup.Usage) uint64 { return u.Spec.Shares }),
		size("container_spec_cpu_quota", "CPU limit in microseconds per period.", func(u *cgroup.Usage) uint64 { return uint64(max(u.Spec.Quota, 0)) }),
		size("container_processes", "Tasks.", func(u *cgroup.Usage) uint64 { return u.PIDs }),
		size("container_threads", "Tasks.", func(u *cgroup.Usage) uint64 { return u.PIDs }),
		count("container_oom_events_total", "Processes killed for the memory limit.", func(u *cgroup.Usage) uint64 { return u.OOMKills }),
		count("container_cpu_cfs_periods_total", "Periods of the CPU limit.", func(u *cgroup.Usage) uint64 { return u.Throttled.Periods }),
		count("container_cpu_cfs_throttled_periods_total", "Periods in which the CPU limit was reached.", func(u *cgroup.Usage) uint64 { return u.Throttled.ThrottledPeriods }),
		elapsed("container_cpu_cfs_throttled_seconds_total", "Time lost to the CPU limit in seconds.", func(u *cgroup.Usage) time.Duration { return u.Throttled.Time }),
		elapsed("container_pressure_cpu_waiting_seconds_total", "Time some task waited for the CPU.", func(u *cgroup.Usage) time.Duration { return u.Pressure.CPU.Some.Total }),
		elapsed("container_pressure_cpu_stalled_seconds_total", "Time all tasks waited for the CPU.", func(u *cgroup.Usage) time.Duration { return u.Pressure.CPU.Full.Total }),
		elapsed("container_pressure_memory_waiting_seconds_total", "Time some task waited for memory.", func(u *cgroup.Usage) time.Duration { return u.Pressure.Memory.Some.Total }),
		elapsed("container_pressure_memory_stalled_seconds_total", "Time all tasks waited for memory.", func(u *cgroup.Usage) time.Duration { return u.Pressure.Memory.Full.Total }),
		elapsed("container_pressure_io_waiting_seconds_total", "Time some task waited for disks.", func(u *cgroup.Usage) time.Duration { return u.Pressure.IO.Some.Total }),
		elapsed("container_pressure_io_stalled_seconds_total", "Time all tasks waited for disks.", func(u *cgroup.Usage) time.Duration { return u.Pressure.IO.Full.Total }),
	}
	for i := range all {
		switch m := &all[i]; {
		case m.name == "container_spec_cpu_quota":
			m.when = quotaSet
		case strings.HasPrefix(m.name, "container_cpu_cfs_"):
			m.when = throttled
		case strings.HasPrefix(m.name, "container_pressure_"):
			m.when = pressed
		}
	}
	return all
}

// cadvisor is the metrics of /metrics/cadvisor.
type cadvisor struct {
	usage []usageMetric
	descs map[string]*metrics.Desc
}

// cadvisorMetrics is /metrics/cadvisor.
func (s *Server) cadvisorMetrics() http.Handler {
	c := &cadvisor{usage: usageMetrics(), descs: map[string]*metrics.Desc{}}
	for _, m := range c.usage {
		c.descs[m.name] = &metrics.Desc{Name: m.name, Help: m.help, Counter: m.counter, Labels: cadvisorLabels}
	}
	add := func(extra, name, help string, counter bool) {
		labels := cadvisorLabels
		if extra != "" {
			labels = append([]string{extra}, labels...)
		}
		c.descs[name] = &metrics.Desc{Name: name, Help: help, Counter: counter, Labels: labels}
	}
	add("cpu", "container_cpu_usage_seconds_total", "CPU time used in seconds.", true)
	add("", "container_start_time_seconds", "When it started, in seconds since 1970.", false)
	add("", "container_last_seen", "When it was last measured, in seconds since 1970.", false)
	for _, f := range []string{"container_fs_reads_bytes_total", "container_fs_writes_bytes_total", "container_fs_reads_total", "container_fs_writes_total"} {
		add("device", f, "Traffic of block devices.", true)
	}
	add("device", "container_fs_usage_bytes", "Bytes written by the container, or used of the file system.", false)
	add("device", "container_fs_limit_bytes", "Size of the file system.", false)
	add("device", "container_fs_inodes_free", "Free inodes of the file system.", false)
	add("device", "container_fs_inodes_total", "Inodes of the file system.", false)
	for _, way := range []string{"receive", "transmit"} {
		for _, what := range []string{"bytes", "packets", "packets_dropped", "errors"} {
			add("interface", "container_network_"+way+"_"+what+"_total", "Network traffic.", true)
		}
	}
	for name, help := range map[string]string{
		"machine_cpu_cores": "CPUs of the machine.", "machine_memory_bytes": "Memory of the machine.", "machine_swap_bytes": "Swap of the machine.",
		"container_scrape_error": "1 if something could not be measured.", "machine_scrape_error": "1 if the machine could not be measured.",
	} {
		c.descs[name] = &metrics.Desc{Name: name, Help: help}
	}
	reg := metrics.New()
	descs := make([]*metrics.Desc, 0, len(c.descs))
	for _, d := range c.descs {
		descs = append(descs, d)
	}
	reg.OnScrape(func(e *metrics.Emitter) { c.collect(e, s.scrape(stats.Full)) }, descs...)
	return reg.Handler()
}

func (c *cadvisor) collect(e *metrics.Emitter, all stats.All) {
	e.Value(c.descs["machine_cpu_cores"], float64(runtime.NumCPU()))
	e.Value(c.descs["machine_memory_bytes"], float64(all.Node.Memory))
	e.Value(c.descs["machine_swap_bytes"], float64(all.Node.Swap))
	e.Value(c.descs["container_scrape_error"], flag(all.Failed))
	e.Value(c.descs["machine_scrape_error"], flag(all.Node.Usage == nil))
	root := []string{"", "/", "", "", "", ""}
	c.cgroup(e, all.Node.Usage, time.Time{}, root)
	c.network(e, all.Node.Interfaces, all.Node.At, root)
	c.space(e, all.Node.Fs, root)
	for name, u := range all.Node.System {
		if name == "pods" {
			c.cgroup(e, u, time.Time{}, []string{"", "/kubepods", "", "", "", ""})
		}
	}
	for _, p := range all.Pods {
		var started time.Time
		labels := []string{"", p.Cgroup, "", "", p.Pod.Namespace, p.Pod.Name}
		if sb := p.Sandbox; sb != nil {
			started = sb.Created
			c.network(e, p.Interfaces, all.Node.At, []string{"", p.Cgroup + "/" + sb.ID, "", sb.ID, p.Pod.Namespace, p.Pod.Name})
		}
		c.cgroup(e, p.Usage, started, labels)
		for _, ctr := range p.Containers {
			labels := []string{ctr.Container.Name, ctr.Cgroup, ctr.Container.Image, ctr.Container.ID, p.Pod.Namespace, p.Pod.Name}
			c.cgroup(e, ctr.Usage, ctr.Container.Started, labels)
			c.space(e, ctr.Rootfs, labels)
		}
	}
}

// with puts one more label before the others.
func with(first string, labels []string) []string { return slices.Concat([]string{first}, labels) }

func (c *cadvisor) cgroup(e *metrics.Emitter, u *cgroup.Usage, started time.Time, labels []string) {
	if u == nil {
		return
	}
	e.ValueAt(c.descs["container_cpu_usage_seconds_total"], u.CPU.Seconds(), u.At, with("total", labels)...)
	for _, m := range c.usage {
		if m.when == nil || m.when(u) {
			e.ValueAt(c.descs[m.name], m.read(u), u.At, labels...)
		}
	}
	e.Value(c.descs["container_last_seen"], seconds(u.At), labels...)
	if !started.IsZero() {
		e.Value(c.descs["container_start_time_seconds"], seconds(started), labels...)
	}
	disk := with("", labels)
	e.ValueAt(c.descs["container_fs_reads_bytes_total"], float64(u.IO.ReadBytes), u.At, disk...)
	e.ValueAt(c.descs["container_fs_writes_bytes_total"], float64(u.IO.WriteBytes), u.At, disk...)
	e.ValueAt(c.descs["container_fs_reads_total"], float64(u.IO.Reads), u.At, disk...)
	e.ValueAt(c.descs["container_fs_writes_total"], float64(u.IO.Writes), u.At, disk...)
}

func (c *cadvisor) space(e *metrics.Emitter, s *stats.Space, labels []string) {
	if s == nil {
		return
	}
	disk := with("", labels)
	e.ValueAt(c.descs["container_fs_usage_bytes"], float64(s.Used), s.At, disk...)
	e.ValueAt(c.descs["container_fs_limit_bytes"], float64(s.Capacity), s.At, disk...)
	e.ValueAt(c.descs["container_fs_inodes_free"], float64(s.InodesFree), s.At, disk...)
	e.ValueAt(c.descs["container_fs_inodes_total"], float64(s.InodesAll), s.At, disk...)
}

func (c *cadvisor) network(e *metrics.Emitter, interfaces []stats.Interface, at time.Time, labels []string) {
	for _, i := range interfaces {
		for name, n := range map[string]uint64{
			"receive_bytes": i.RxBytes, "receive_packets": i.RxPackets, "receive_packets_dropped": i.RxDropped, "receive_errors": i.RxErrors,
			"transmit_bytes": i.TxBytes, "transmit_packets": i.TxPackets, "transmit_packets_dropped": i.TxDropped, "transmit_errors": i.TxErrors,
		} {
			e.ValueAt(c.descs["container_network_"+name+"_total"], float64(n), at, with(i.Name, labels)...)
		}
	}
}
