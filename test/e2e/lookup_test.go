package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// lookupEnv makes the test program a client of Go's own resolver, for pods.
const lookupEnv = "NODELET_E2E_LOOKUP"

// lookup prints what the names given as arguments stand for.
func lookup() {
	r := net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		addrs, err := r.LookupHost(context.Background(), name)
		var failed *net.DNSError
		switch {
		case errors.As(err, &failed) && failed.IsNotFound:
			fmt.Printf("%s: no such name\n", name)
		case err != nil:
			fmt.Printf("%s: %v\n", name, err)
		}
		for _, a := range addrs {
			fmt.Printf("%s: %s\n", name, a)
		}
	}
}
