// Package golden runs tests whose cases are txtar archives: sections that are
// read, and sections that the code under test writes; or whole files. It is imported by tests
// only, and knows nothing of what the sections mean.
//
// Touches: the files of testdata, and only with -update.
package golden
