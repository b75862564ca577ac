package server

import (
	"context"
	"net/http"
	"time"

	"nodelet/agent/stats"
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
		nodeSwap = d("node_swap_usage_bytes", "Swap used on the node.", false)
		ctrCPU   = d("container_cpu_usage_seconds_total", "CPU time used by the container in core-seconds.", true, container...)
		ctrMem   = d("container_memory_working_set_bytes", "Working set of the container.", false, container...)
		ctrSwap  = d("container_swap_usage_bytes", "Swap used by the container.", false, container...)
		ctrMax   = d("container_swap_limit_bytes", "Swap the container may use.", false, container...)
		ctrStart = d("container_start_time_seconds", "When the container started, in seconds since 1970.", false, container...)
		podCPU   = d("pod_cpu_usage_seconds_total", "CPU time used by the pod in core-seconds.", true, pod...)
		podMem   = d("pod_memory_working_set_bytes", "Working set of the pod.", false, pod...)
		podSwap  = d("pod_swap_usage_bytes", "Swap used by the pod.", false, pod...)
		failed   = d("resource_scrape_error", "1 if something could not be measured.", false)
		oldName  = d("scrape_error", "1 if something could not be measured. Deprecated name.", false)
	)
	reg := metrics.New()
	reg.OnScrape(func(e *metrics.Emitter) {
		all := s.scrape(stats.Cheap)
		if u := all.Node.Usage; u != nil {
			e.ValueAt(nodeCPU, u.CPU.Seconds(), u.At)
			e.ValueAt(nodeMem, float64(u.WorkingSet), u.At)
			e.ValueAt(nodeSwap, float64(all.Node.Swap-min(all.Node.Swap, all.Node.SwapFree)), u.At)
		}
		for _, p := range all.Pods {
			if u := p.Usage; u != nil {
				e.ValueAt(podCPU, u.CPU.Seconds(), u.At, p.Pod.Name, p.Pod.Namespace)
				e.ValueAt(podMem, float64(u.WorkingSet), u.At, p.Pod.Name, p.Pod.Namespace)
				e.ValueAt(podSwap, float64(u.Swap), u.At, p.Pod.Name, p.Pod.Namespace)
			}
			for _, c := range p.Containers {
				labels := []string{c.Container.Name, p.Pod.Name, p.Pod.Namespace}
				e.Value(ctrStart, seconds(c.Container.Started), labels...)
				if u := c.Usage; u != nil {
					e.ValueAt(ctrCPU, u.CPU.Seconds(), u.At, labels...)
					e.ValueAt(ctrMem, float64(u.WorkingSet), u.At, labels...)
					e.ValueAt(ctrSwap, float64(u.Swap), u.At, labels...)
					if u.SwapLimit != nil {
						e.ValueAt(ctrMax, float64(*u.SwapLimit), u.At, labels...)
					}
				}
			}
		}
		e.Value(failed, flag(all.Failed))
		e.Value(oldName, flag(all.Failed))
	}, nodeCPU, nodeMem, nodeSwap, ctrCPU, ctrMem, ctrSwap, ctrMax, ctrStart, podCPU, podMem, podSwap, failed, oldName)
	return reg.Handler()
}

func (s *Server) scrape(depth stats.Depth) stats.All {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	return s.deps.Stats.Read(ctx, depth)
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
