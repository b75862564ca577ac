package lb

import "net/netip"

// UDPFlow is a flow of UDP that a back end translates: who sends to which frontend, which endpoint gets it, and
// as whose: Source is Client unless it is masqueraded.
type UDPFlow struct{ Client, Frontend, Endpoint, Source netip.AddrPort }
