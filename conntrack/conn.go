package conntrack

import (
	"fmt"
	"sync/atomic"

	"uvs/dataplane/wire"
)

// Ref is a conn's index in the table's slab; zero is no conn. A Ref found between Begin
// and End is good until End. A conn is kept as long as it has children, so a child's
// Control is good as long as the child.
type Ref uint32

// Method is how a frame reaches its server; the values of the kernel's
// IP_VS_CONN_F_FWD_MASK (include/uapi/linux/ip_vs.h).
type Method uint8

const (
	MethodNAT    Method = 0
	MethodLocal  Method = 1
	MethodTunnel Method = 2
	MethodDR     Method = 3
	MethodBypass Method = 4
)

// String returns the method's name in ipvsadm's listing.
func (m Method) String() string {
	if names := [...]string{"Masq", "Local", "Tunnel", "Route"}; int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// Entry describes a conn to Insert.
type Entry struct {
	Client, VIP, Server      wire.Addr
	ClientPort, VPort, SPort uint16
	Proto                    uint8
	Method                   Method
	ServerID                 uint32 // below Config.ServerIDs
	// State is the first state; 0: InitialState of the protocol.
	State State
	// Template marks a persistence template; Query.Template finds it.
	Template bool
	// NoClientPort and NoServerPort mark an expectation. It waits for the first
	// packet of a client, or of a server, whose port is not known yet. Only that
	// side's packets find it, and SetPort replaces it by a conn. With NoClientPort
	// ClientPort is 0; with NoServerPort listings show SPort and VPort.
	NoClientPort, NoServerPort bool
	// Helped marks a conn whose packets a helper looks at.
	Helped bool
	// OnePacket marks a conn that no lookup finds and that ends with the batch.
	OnePacket bool
	// Control is the conn that this one depends on and keeps alive; 0: none.
	Control Ref
	// Timeout is a template's own timeout, or how long an expectation waits; 0: as
	// its state says.
	Timeout Tick
	// ReturnHop is what the director keeps about the next hop to the client. A template
	// has none.
	ReturnHop uint64
}

// Conn is one entry of the table: 96 bytes without pointers. Its first part is written
// before the conn can be found and never while it can. Its second part is changed by
// any worker, atomically. Its third part belongs to the worker in whose timer wheel the
// conn is.
//
//	 0  client, vip, server address     48  their ports, 2 bytes each
//	54  protocol                        55  method and flags (kind…)
//	56  server ID, session (16 bits each)  60  birth (24), overflowed (1), worker (7)
//	64  state word                      72  return hop
//	80  control                         84  children
//	88  next, prev (places in a slot of the wheel)
type Conn struct {
	client, vip, server      wire.Addr
	clientPort, vport, sport uint16
	proto                    uint8
	kind                     uint8
	serverSession            atomic.Uint32
	owner                    uint32

	stateWord atomic.Uint64
	returnHop atomic.Uint64 // of a template: its own timeout, in ticks
	control   Ref
	children  atomic.Uint32

	next Ref
	prev uint32
}

// Parts of Conn.kind.
const (
	kindMethod       = 7 // mask
	kindTemplate     = 1 << 3
	kindNoClientPort = 1 << 4
	kindOnePacket    = 1 << 5
	kindNoServerPort = 1 << 6
	kindHelped       = 1 << 7

	kindExpectation = kindNoClientPort | kindNoServerPort
	// kindLookup is what a query selects beside the endpoints: a conn (0), a
	// template or one of the two expectations.
	kindLookup = kindTemplate | kindExpectation
)

// stateWord is all that packets change about a conn, in one word. So one compare-and-swap
// moves state, deadline and count together, and fails if the conn has ended:
//
//	bit 63            48 47      45 44     40   39   38                      0
//	+-------------------+----------+---------+------+------------------------+
//	| packets in        | flags    | state   | flag | deadline (17 years)    |
//	+-------------------+----------+---------+------+------------------------+
//
// After 65535 the count goes on at 32768, so that an old conn never looks new.
type stateWord uint64

const (
	deadlineBits   = 39
	deadlineMask   = 1<<deadlineBits - 1
	stateShift     = deadlineBits + 1
	stateMask      = 31
	packetsInShift = 48

	flagLastFIN stateWord = 1 << 39 // the client's last packet was a FIN
	flagLive    stateWord = 1 << 45 // not ended
	flagSettled stateWord = 1 << 46 // won its place in the index; listed, evicted, counted
	flagReplied stateWord = 1 << 47 // a packet from the server has passed here
)

func (w stateWord) deadline() Tick    { return Tick(w & deadlineMask) }
func (w stateWord) state() State      { return State(w >> stateShift & stateMask) }
func (w stateWord) packetsIn() uint16 { return uint16(w >> packetsInShift) }
func (w stateWord) live() bool        { return w&flagLive != 0 }
func (w stateWord) listed() bool      { return w&(flagLive|flagSettled) == flagLive|flagSettled }

func (w stateWord) withDeadline(d Tick) stateWord {
	return w&^deadlineMask | stateWord(max(d, 0)&deadlineMask)
}

func (w stateWord) withState(s State) stateWord {
	return w&^(stateMask<<stateShift) | stateWord(s)<<stateShift
}

// counted returns the word after one more packet from the client.
func (w stateWord) counted() stateWord {
	if w.packetsIn() == 1<<16-1 {
		return w &^ (1 << 63) // to 32767, and on below
	}
	return w + 1<<packetsInShift
}

// unlinked marks, in Conn.children, a conn that has left the index. It takes no more
// children, and is retired with the last one.
const unlinked = 1 << 31

func (c *Conn) loadStateWord() stateWord { return stateWord(c.stateWord.Load()) }

func (c *Conn) swap(old, new stateWord) bool {
	return c.stateWord.CompareAndSwap(uint64(old), uint64(new))
}

// These are as in Entry. The protocol of a mark's template is 0.
func (c *Conn) Client() (wire.Addr, uint16) { return c.client, c.clientPort }
func (c *Conn) VIP() (wire.Addr, uint16)    { return c.vip, c.vport }
func (c *Conn) Server() (wire.Addr, uint16) { return c.server, c.sport }
func (c *Conn) Proto() uint8                { return c.proto }
func (c *Conn) Method() Method              { return Method(c.kind & kindMethod) }
func (c *Conn) ServerID() uint32            { return c.serverSession.Load() & sessionMask }
func (c *Conn) Control() Ref                { return c.control }
func (c *Conn) Template() bool              { return c.kind&kindTemplate != 0 }
func (c *Conn) NoClientPort() bool          { return c.kind&kindNoClientPort != 0 }
func (c *Conn) Helped() bool                { return c.kind&kindHelped != 0 }
func (c *Conn) OnePacket() bool             { return c.kind&kindOnePacket != 0 }

// Children returns how many conns depend on this one.
func (c *Conn) Children() int { return int(c.children.Load() &^ unlinked) }

// Expectation reports whether the port of one side is not known yet.
func (c *Conn) Expectation() bool { return c.kind&kindExpectation != 0 }

func (c *Conn) State() State { return c.loadStateWord().state() }
func (c *Conn) Live() bool   { return c.loadStateWord().live() }

// Deadline returns when the conn ends if no packet comes.
func (c *Conn) Deadline() Tick { return c.loadStateWord().deadline() }

// Replied reports whether a packet from the server has passed here.
func (c *Conn) Replied() bool { return c.loadStateWord()&flagReplied != 0 }

// NoOutput reports whether packets from the server are not expected to pass here: with
// every method but masq, until one does (the kernel's IP_VS_CONN_F_NOOUTPUT).
func (c *Conn) NoOutput() bool { return c.noOutput(c.loadStateWord()) }

func (c *Conn) noOutput(word stateWord) bool { return c.Method() != MethodNAT && word&flagReplied == 0 }

// Timeout returns a template's own timeout; 0: as its state says.
func (c *Conn) Timeout() Tick {
	if !c.Template() {
		return 0
	}
	return Tick(c.returnHop.Load())
}

// ReturnHop returns what SetReturnHop set last; 0 for a template.
func (c *Conn) ReturnHop() uint64 {
	if c.Template() {
		return 0
	}
	return c.returnHop.Load()
}

// SetReturnHop sets what ReturnHop returns. A template has none.
func (c *Conn) SetReturnHop(hop uint64) {
	if !c.Template() {
		c.returnHop.Store(hop)
	}
}

// timeout returns how long the conn is kept in a state after its last packet.
func (c *Conn) timeout(s State, timeouts *Timeouts) Tick {
	if own := c.Timeout(); own > 0 {
		return own
	}
	return timeouts[s]
}

// birthShift converts a tick to birth units of 1.024 s, which wrap after 198 days.
const birthShift = 10

// age returns how long ago the conn was inserted, modulo 198 days. The clock of the worker
// that inserted it may be ahead of now.
func (c *Conn) age(now Tick) Tick {
	const ahead = 64
	births := (uint32(now>>birthShift) - c.owner>>8 + ahead) & (1<<24 - 1)
	return Tick(max(births, ahead)-ahead) << birthShift
}

// fill writes all parts of a new conn but its state word.
func (c *Conn) fill(e *Entry, worker int, now Tick) {
	c.client, c.vip, c.server = e.Client, e.VIP, e.Server
	c.clientPort, c.vport, c.sport = e.ClientPort, e.VPort, e.SPort
	c.proto = e.Proto
	c.kind = uint8(e.Method) & kindMethod
	c.serverSession.Store(e.ServerID)
	c.owner = uint32(now>>birthShift)<<8 | uint32(worker)
	c.returnHop.Store(e.ReturnHop)
	if e.Template {
		c.kind |= kindTemplate
		c.returnHop.Store(uint64(clampTimeout(e.Timeout)))
	}
	if e.NoClientPort {
		c.kind |= kindNoClientPort
		c.clientPort = 0
	}
	if e.NoServerPort {
		c.kind |= kindNoServerPort
	}
	if e.Helped {
		c.kind |= kindHelped
	}
	if e.OnePacket {
		c.kind |= kindOnePacket
	}
	c.children.Store(0)
	c.next, c.prev = 0, 0
}

func clampTimeout(d Tick) Tick { return min(max(d, 0), MaxTimeout) }

// worker returns the worker in whose timer wheel the conn is.
func (c *Conn) worker() int { return int(c.owner & (MaxWorkers - 1)) }

// ownerOverflowed marks, in Conn.owner, a conn that found its window of the index full.
const ownerOverflowed = MaxWorkers

func (c *Conn) overflowed() bool { return c.owner&ownerOverflowed != 0 }

// hasSecondSlot reports whether the conn has a slot of the index for its replies.
func (c *Conn) hasSecondSlot() bool { return c.overflowed() && c.translatesReplies() }

// translatesReplies reports whether packets find the conn by its server.
func (c *Conn) translatesReplies() bool { return c.kind&(kindMethod|kindLookup) == uint8(MethodNAT) }

// clashes reports whether the same replies would find two conns of different VIPs.
func (c *Conn) clashes(o *Conn) bool {
	return c.translatesReplies() && o.translatesReplies() && c.server == o.server && c.sport == o.sport &&
		c.client == o.client && c.clientPort == o.clientPort && c.proto == o.proto &&
		(c.vip != o.vip || c.vport != o.vport)
}

// sameFlow reports whether the same packets would find both conns: a client's, or a
// server's if the conns wait for a server.
func (c *Conn) sameFlow(o *Conn) bool {
	if c.client != o.client || c.clientPort != o.clientPort || c.proto != o.proto || (c.kind^o.kind)&kindLookup != 0 {
		return false
	}
	if c.kind&kindNoServerPort != 0 {
		return c.server == o.server
	}
	return c.vip == o.vip && c.vport == o.vport
}

// matches reports whether a query finds the conn; port is the client's.
func (c *Conn) matches(q *Query, port uint16) bool {
	if c.client != q.Client || c.clientPort != port || c.proto != q.Proto || c.kind&kindLookup != q.kind {
		return false
	}
	if q.Dir == DirOut && c.kind&kindMethod == uint8(MethodNAT) {
		return c.server == q.Peer && (c.sport == q.PeerPort || c.kind&kindNoServerPort != 0)
	}
	return c.vip == q.Peer && c.vport == q.PeerPort
}
