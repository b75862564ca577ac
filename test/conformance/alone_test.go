package main

import (
	"strings"
	"testing"
)

func TestASecondRunInTheSameLabIsRefused(t *testing.T) {
	name := "test-" + strings.ToLower(t.Name())[:8]
	hold, err := alone(name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = alone(name)
	if err == nil || !strings.Contains(err.Error(), "-lab") {
		t.Fatalf("the second run got %v", err)
	}
	if err := hold.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := alone(name)
	if err != nil {
		t.Fatalf("after the first run: %v", err)
	}
	_ = again.Close()
}
