package node

import "log/slog"

// debugVerbosity is klog's level from which on everything is logged here.
const debugVerbosity = 4

// LevelOf takes klog's verbosity for a level.
func LevelOf(verbosity int) slog.Level {
	if verbosity >= debugVerbosity {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// verbosity changes how much is logged; nil where that is not wanted, or not possible.
func (c *Config) verbosity() func(level int) {
	if c.Kubelet.NoVerbosity || c.Level == nil {
		return nil
	}
	return func(level int) { c.Level.Set(LevelOf(level)) }
}
