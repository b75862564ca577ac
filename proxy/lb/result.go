package lb

// Result says what a back end did to make the kernel say what a State says.
type Result struct {
	// Full: the kernel was looked at as a whole; otherwise only changes were written.
	Full bool
	// Messages written to the kernel; 0 when nothing differed.
	Messages int
	// Gone are the frontends that Full found and that are not in the State:
	// what went while nobody was watching.
	Gone []Frontend
	// Tidy: nothing was out of order; what was written only removes what
	// earlier changes had left.
	Tidy bool
}
