package wire

import "encoding/binary"

// Counts are the numbers of records in the three sections of a reply, an OPT
// record not counted.
type Counts struct {
	Answer, Authority, Extra uint16
}

// Begin appends header and question of a reply to q. The counts are written by
// Finish. RA is always set: there is recursion, by forwarding.
func Begin(dst []byte, q *Query, flags uint16, rcode Rcode) []byte {
	flags |= FlagQR | FlagRA | q.Flags&(FlagRD|FlagCD) | uint16(rcode&0xF)
	dst = binary.BigEndian.AppendUint16(dst, q.ID)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	dst = append(dst, 0, 1, 0, 0, 0, 0, 0, 0)
	return append(dst, q.Question()...)
}

// Finish completes a reply begun with Begin, which must be the whole of msg:
// cuts whole records off its end until it fits limit, sets TC when an answer or
// an authority record was lost (RFC 2181 section 9: not for additional ones),
// adds the OPT record when the query had one, and writes the counts.
func Finish(msg []byte, q *Query, n Counts, limit int) []byte {
	if q.EDNS {
		limit -= OptLen
	}
	if len(msg) > limit {
		msg, n = cut(msg, q.End(), n, limit)
	}
	binary.BigEndian.PutUint16(msg[6:], n.Answer)
	binary.BigEndian.PutUint16(msg[8:], n.Authority)
	extra := n.Extra
	if q.EDNS {
		msg = appendOpt(msg, q, 0)
		extra++
	}
	binary.BigEndian.PutUint16(msg[10:], extra)
	return msg
}

// cut keeps the records from off on that fit limit.
func cut(msg []byte, off int, n Counts, limit int) ([]byte, Counts) {
	var kept Counts
	for _, s := range [...]struct{ want, have *uint16 }{
		{&n.Answer, &kept.Answer}, {&n.Authority, &kept.Authority}, {&n.Extra, &kept.Extra},
	} {
		for *s.have < *s.want {
			_, next, ok := SkipRR(msg, off)
			if !ok || next > limit {
				if kept.Answer < n.Answer || kept.Authority < n.Authority {
					msg[2] |= byte(FlagTC >> 8)
				}
				return msg[:off], kept
			}
			off = next
			*s.have++
		}
	}
	return msg[:off], kept
}

func appendOpt(dst []byte, q *Query, extended byte) []byte {
	var do byte
	if q.DO {
		do = 0x80
	}
	return append(dst, 0, 0, byte(TypeOPT), MaxUDP>>8, MaxUDP&0xFF, extended, 0, do, 0, 0, 0)
}

// Status appends a whole reply without records.
func Status(dst []byte, q *Query, rcode Rcode) []byte {
	return Finish(Begin(dst, q, 0, rcode), q, Counts{}, MaxTCP)
}

// Reject appends the reply to a packet that Parse did not accept. It is never
// longer than the packet, so nothing is to be gained by forged senders.
func Reject(dst []byte, q *Query, v Verdict) []byte {
	switch v {
	case RejectVersion:
		q.EDNS = true
		msg := Begin(dst, q, 0, Success)
		msg = appendOpt(msg, q, byte(BadVers>>4))
		msg[11] = 1
		return msg
	case RejectOpcode:
		return rejectHeader(dst, q, NotImp)
	}
	return rejectHeader(dst, q, FormErr)
}

// rejectHeader appends a reply without question, which may not have been readable.
func rejectHeader(dst []byte, q *Query, rcode Rcode) []byte {
	dst = binary.BigEndian.AppendUint16(dst, q.ID)
	flags := FlagQR | q.Flags&(opcodeMask|FlagRD|FlagCD) | uint16(rcode)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	return append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
}
