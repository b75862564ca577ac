package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"nodelet/bench/area"
)

// insideCommand is how the harness calls this program on the node of a turn.
const insideCommand = "inside"

// order is what is done there.
type order struct {
	Area string     `json:"area"`
	Turn area.Turn  `json:"turn"`
	Node *area.Node `json:"node"`
}

// inside measures one turn. Samples go to standard output, a line each.
func inside(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("inside: is for the harness only")
	}
	var o order
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return fmt.Errorf("read the turn: %w", err)
	}
	chosen, err := choose(o.Area)
	if err != nil {
		return err
	}
	if err := o.Node.Open(os.Stdout); err != nil {
		return err
	}
	return chosen[0].Measure(ctx, o.Node, o.Turn)
}
