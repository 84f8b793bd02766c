package compile

import (
	"iter"
	"net/netip"

	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/wire"
)

// vipUsers are the services that have a VIP. Those that were removed count for its settings
// only while no other has it.
type vipUsers struct{ services, removed vipCounts }

// vipCounts counts services: all of them, and those whose setting announce is such.
type vipCounts struct{ all, held, never int }

// add adds n to the counts for services with a setting.
func (c *vipCounts) add(announce uint32, n int) {
	c.all += n
	switch announce {
	case config.AnnounceHeld:
		c.held += n
	case config.AnnounceNever:
		c.never += n
	}
}

// addVIPs adds n services like c to the users of its VIPs. It reports whether an address at
// which tunnels could start became a VIP, or is one no longer.
func (t *Table) addVIPs(c *compiledService, n int) (sources bool) {
	for _, a := range c.vips {
		users, _ := t.vips.Get(a)
		before, was := t.VIPs.Get(a)
		announced := t.announces(a, &users)
		if c.service != nil {
			users.services.add(c.announce, n)
		} else {
			users.removed.add(c.announce, n)
		}
		if t.vips.Set(a, users); users == (vipUsers{}) {
			t.vips.Delete(a)
		}
		t.setVIP(a, &users)
		vip, is := t.VIPs.Get(a)
		t.AnnouncedChanged = t.AnnouncedChanged || t.announces(a, &users) != announced
		t.standby += count(vip.Standby) - count(before.Standby)
		sources = sources || was != is && t.FIB.IsSource(a)
	}
	return sources
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// setVIP enters a VIP of the table by its users. Where they differ, the quieter setting
// counts. Only the director answers for the addresses of its VLANs.
func (t *Table) setVIP(a wire.Addr, users *vipUsers) {
	counts := &users.services
	if counts.all == 0 {
		counts = &users.removed
	}
	switch {
	case isVLANAddr(t.FIB, a):
		return
	case counts.all == 0:
		t.VIPs.Delete(a)
		return
	}
	vip := director.VIP{DirectorOnly: !t.FIB.IsLocal(a)}
	vip.Standby = t.Standby == director.StandbyAll || vip.DirectorOnly && counts.held > 0
	vip.Silent = vip.Standby || counts.never > 0
	t.VIPs.Set(a, vip)
}

// announces reports whether a VIP is to be announced: one of a service that is not removed,
// for which the director answers.
func (t *Table) announces(a wire.Addr, users *vipUsers) bool {
	vip, _ := t.VIPs.Get(a)
	return users.services.all > 0 && !vip.Silent && !t.FIB.IsLocal(a)
}

// Announced are the VIPs to announce, in no order.
func (t *Table) Announced() (list []netip.Addr) {
	for a, users := range t.vips.All() {
		if t.announces(a, &users) {
			list = append(list, a.Netip())
		}
	}
	return list
}

// vlanAddrs iterates over the addresses of the director's VLANs.
func vlanAddrs(fib *director.FIB) iter.Seq[wire.Addr] {
	return func(yield func(wire.Addr) bool) {
		for i := range fib.Ports {
			p := &fib.Ports[i]
			for _, a := range []netip.Addr{p.Addr4, p.Addr6} {
				if p.VLAN != 0 && a.IsValid() && !yield(wire.AddrFrom(a)) {
					return
				}
			}
		}
	}
}

func isVLANAddr(fib *director.FIB, a wire.Addr) bool {
	for vlan := range vlanAddrs(fib) {
		if vlan == a {
			return true
		}
	}
	return false
}
