package metrics

import "time"

// Storage counts what is done with volumes, by upstream's names.
type Storage struct {
	operation, driver func(time.Duration, ...string)
}

// storageBuckets are upstream's, in seconds.
var storageBuckets = []float64{.1, .25, .5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600}

// Storage registers storage_operation_duration_seconds and csi_operations_seconds.
func (r *Registry) Storage() *Storage {
	return &Storage{
		operation: r.Histogram("storage_operation_duration_seconds", "Time that one operation on a volume took.", storageBuckets,
			"volume_plugin", "operation_name", "status", "migrated"),
		driver: r.Histogram("csi_operations_seconds", "Time that one call to a CSI driver took.", storageBuckets,
			"driver_name", "method_name", "grpc_status_code", "migrated"),
	}
}

// Operation counts one operation, such as volume_mount, on a volume of a plugin, such as kubernetes.io/csi.
func (m *Storage) Operation(plugin, operation string, took time.Duration, err error) {
	status := "success"
	if err != nil {
		status = "fail-unknown"
	}
	m.operation(took, plugin, operation, status, "false")
}

// Driver counts one call to a CSI driver.
func (m *Storage) Driver(driver, method, code string, took time.Duration) {
	m.driver(took, driver, method, code, "false")
}
