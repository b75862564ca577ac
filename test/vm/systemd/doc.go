// Package systemd tests nodelet as a service of systemd, on a machine of its own: see command test/vm. It has
// no code, only tests, and they skip themselves anywhere else.
package systemd
