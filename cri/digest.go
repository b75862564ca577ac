package cri

import (
	"context"
	"fmt"
	"hash/maphash"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
)

// Digest stands for all that ListPodSandbox and ListContainers answer now: while it stays the same,
// nothing in those lists has changed. It takes a tenth of the lists themselves, because nothing is
// decoded. A Client's digests are of no use to another. ErrUnimplemented for a runtime in this
// process, where lists are not encoded at all.
func (c *Client) Digest(ctx context.Context) (uint64, error) {
	r, ok := c.server.(*remote)
	if !ok {
		return 0, newError("Digest", c.endpoint, status.Error(codes.Unimplemented, "the runtime is in this process"))
	}
	var sum uint64
	for _, op := range []string{"ListPodSandbox", "ListContainers"} {
		part, err := call(ctx, c, rpc[string, uint64]{op: op, do: r.digest}, op)
		if err != nil {
			return 0, err
		}
		sum = mix(sum, part)
	}
	return sum, nil
}

// digest calls a method without a request and gives the digest of its answer.
func (r *remote) digest(ctx context.Context, method string) (uint64, error) {
	got := &digested{seed: r.seed}
	err := r.conn.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, nil, got, grpc.ForceCodecV2(digestCodec{}))
	return got.sum, err
}

// digested is an answer of which only the digest is wanted.
type digested struct {
	seed maphash.Seed
	sum  uint64
}

// digestCodec sends an empty message and digests the answer where it lies.
type digestCodec struct{}

// Marshal implements encoding.CodecV2.
func (digestCodec) Marshal(any) (mem.BufferSlice, error) { return nil, nil }

// Unmarshal implements encoding.CodecV2.
func (digestCodec) Unmarshal(data mem.BufferSlice, v any) (err error) {
	d, ok := v.(*digested)
	if !ok {
		return fmt.Errorf("digest an answer into %T", v)
	}
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	d.sum, err = digestOf(d.seed, buffer.ReadOnlyData(), listDepth)
	return err
}

// Name implements encoding.CodecV2: the bytes are those of Protobuf.
func (digestCodec) Name() string { return "proto" }

// listDepth: a list is a message of items, and these of fields.
const listDepth = 2

// digestOf gives the digest of a message, for which the order of its fields means nothing down to
// that depth: a runtime lists in any order, and writes the entries of labels in any order.
func digestOf(seed maphash.Seed, message []byte, depth int) (uint64, error) {
	if depth == 0 {
		return maphash.Bytes(seed, message), nil
	}
	var sum uint64
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return 0, fmt.Errorf("read a list: %w", protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, message[n:])
		if size < 0 {
			return 0, fmt.Errorf("read a list: %w", protowire.ParseError(size))
		}
		value := message[n : n+size]
		message = message[n+size:]
		part := maphash.Bytes(seed, value)
		if content, n := protowire.ConsumeBytes(value); kind == protowire.BytesType && depth > 1 && n >= 0 {
			var err error
			if part, err = digestOf(seed, content, depth-1); err != nil {
				return 0, err
			}
		}
		sum += mix(uint64(number), part)
	}
	return mix(sum, uint64(depth)), nil
}

// mix makes of two numbers one, in which each bit of both counts (the finalizer of MurmurHash3).
func mix(a, b uint64) uint64 {
	h := a*0x9e3779b97f4a7c15 ^ b
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
