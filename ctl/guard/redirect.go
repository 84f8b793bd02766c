package guard

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Mark is on every frame that uvs sends while RedirectReplies is in force. The
// rules do not redirect such frames again. It reads "uvs1".
const Mark = 0x75767331

// RedirectReplies redirects what the host sends from ServiceRules.LocalServers by
// one of Rules.Interfaces. It goes out by the interface of that index instead, to
// the hardware address to. These rules join the table, for each family and
// interface:
//
//	chain eth0-out {
//		type filter hook egress device "eth0" priority -1000; policy accept;
//		meta mark 0x75767331 return
//		meta protocol ip jump local4
//	}
//	chain local4 {
//		ip frag-off & 0x1fff != 0x0 ip saddr . ip daddr . ip id @localfragments4 goto localnode
//		ip saddr . meta l4proto @anylocalservers4 goto localnode
//		ip saddr . meta l4proto . th sport @localservers4 goto localfirst4
//	}
//	chain localfirst4 {
//		ip frag-off & 0x2000 != 0x0 update @localfragments4 { ip saddr . ip daddr . ip id }
//		goto localnode
//	}
//	chain localnode { ether daddr set <to> fwd to <interface> }
//
// The kernel must have the egress hook (Linux 5.16). Call it before the first
// Apply.
func (g *Guard) RedirectReplies(index int, to [6]byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	localNode := g.addChain("localnode")
	for _, f := range families {
		if err := g.addEndpointSets(f, map[string]int{"anylocalservers": 2, "localservers": 3}); err != nil {
			return fmt.Errorf("guard: %w", err)
		}
		if err := g.addFragmentSet(f, "localfragments"); err != nil {
			return fmt.Errorf("guard: %w", err)
		}
		local, first := g.addChain("local"+f.suffix), g.addChain("localfirst"+f.suffix)
		g.rule(local, f).key(f.fragmentOffset).masked(f.laterMask).not(0, 0).
			key(f.src, f.dst, f.fragmentID).in("localfragments").goTo(localNode)
		g.rule(local, f).key(f.src, l4proto).in("anylocalservers").goTo(localNode)
		g.rule(local, f).key(f.src, l4proto, srcPort).in("localservers").goTo(first)
		g.rule(first, f).key(f.fragmentOffset).masked(f.moreMask).not(0, 0).
			key(f.src, f.dst, f.fragmentID).addTo("localfragments")
		g.rule(first, f).goTo(localNode)
	}
	g.redirects = true
	g.addInterface(loopback) // only an egress chain proves that the kernel has the hook
	g.deleteInterface(loopback)
	if err := g.conn.Flush(); err != nil {
		return fmt.Errorf("guard: redirect the replies of the host's own servers, which needs Linux 5.16: %w",
			explainErrno(err))
	}
	if err := g.addFwdRule(localNode, index, to); err != nil {
		return fmt.Errorf("guard: redirect the replies of the host's own servers: %w", explainErrno(err))
	}
	return nil
}

var mark = meta(expr.MetaKeyMARK, 4)

func (g *Guard) egressChain(name string) *nftables.Chain {
	c := g.ingressChain(name)
	c.Name, c.Hooknum = name+"-out", nftables.ChainHookEgress
	return c
}

// addEgress queues the egress chain of an interface.
func (g *Guard) addEgress(name string) {
	c := g.conn.AddChain(g.egressChain(name))
	g.rule(c, &ipv4).key(mark).is(binary.NativeEndian.AppendUint32(nil, Mark)...).pass()
	for _, f := range families {
		g.rule(c, f).ofFamily().jump("local")
	}
}

// addFwdRule adds the one rule with an expression, fwd, that package nftables
// does not have.
func (g *Guard) addFwdRule(chain *nftables.Chain, index int, to [6]byte) error {
	enc := netlink.NewAttributeEncoder()
	enc.String(unix.NFTA_RULE_TABLE, g.table.Name)
	enc.String(unix.NFTA_RULE_CHAIN, chain.Name)
	enc.Nested(unix.NFTA_RULE_EXPRESSIONS, func(list *netlink.AttributeEncoder) error {
		for _, e := range []expr.Any{
			&expr.Immediate{Register: register, Data: to[:]},
			&expr.Payload{
				OperationType: expr.PayloadWrite, SourceRegister: register, Base: expr.PayloadBaseLLHeader, Len: 6,
			},
			&expr.Immediate{Register: register, Data: binary.NativeEndian.AppendUint32(nil, uint32(index))},
		} {
			list.Do(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, func() ([]byte, error) {
				return expr.Marshal(unix.NFPROTO_NETDEV, e)
			})
		}
		list.Nested(unix.NFTA_LIST_ELEM, func(fwd *netlink.AttributeEncoder) error {
			fwd.String(unix.NFTA_EXPR_NAME, "fwd")
			fwd.Nested(unix.NFTA_EXPR_DATA, func(device *netlink.AttributeEncoder) error {
				device.ByteOrder = binary.BigEndian
				device.Uint32(unix.NFTA_FWD_SREG_DEV, register)
				return nil
			})
			return nil
		})
		return nil
	})
	return send(g.socket, unix.NFT_MSG_NEWRULE, netlink.Append, enc)
}
