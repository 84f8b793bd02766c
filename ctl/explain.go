package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"uvs/conntrack"
	"uvs/ctl/api"
	"uvs/ctl/compile"
	"uvs/ctl/config"
	"uvs/dataplane/director"
	"uvs/dataplane/helper"
	"uvs/dataplane/wire"
	"uvs/sched"
)

// Explain returns what the director would do with a packet, and why. It changes nothing: the
// packet goes through the director's own code with copies of all that it would touch.
func (m *Manager) Explain(p api.Probe) (*api.Explanation, error) {
	r, err := m.simulate(p)
	if err != nil {
		return nil, err
	}
	e := &api.Explanation{Probe: p, Verdict: r.verdict.String(), Service: r.service, Why: r.why()}
	e.Probe.InInterface = r.table.FIB.Ports[r.inPort].Name
	if r.conn != nil {
		e.Conn = connStatus(r.conn)
	}
	if r.template != nil {
		e.Template = connStatus(r.template)
	}
	e.Candidates = r.candidates()
	if server := r.chosen(); server != nil {
		describeServer(e, r, server)
	}
	if r.service != nil {
		e.Hidden = r.hidden
		e.Helper = r.helper()
		e.Settings = r.settingsList()
	}
	return e, nil
}

// describeServer fills in what depends on the chosen server.
func describeServer(e *api.Explanation, r *simulation, server *director.Server) {
	configured := r.servers[server.ID]
	e.Server, e.By = &configured, r.chosenBy()
	hop := server.NextHop
	e.NextHop = nextHopText(r.table.FIB, &hop, configured.Addr)
	if r.table.FIB.IsLocal(server.Addr) {
		e.NextHop = localNodeText(hop)
	}
	if server.Method == conntrack.MethodTunnel && hop.State != director.NoRoute {
		e.NextHop += fmt.Sprintf(", of which %d for the tunnel header %s > %s",
			server.Tunnel.Overhead(), server.Tunnel.Src, server.Tunnel.Dst)
	}
	var lastSeen uint64
	if r.conn != nil {
		lastSeen = r.conn.ReturnHop
	}
	client := r.probe.Client.Addr()
	back := r.table.FIB.ReturnHop(wire.AddrFrom(client), lastSeen)
	e.ReturnHop = nextHopText(r.table.FIB, &back, client)
	if back.State != director.Resolved && r.conn == nil {
		e.ReturnHop = "to where the client's packets come from; the host's routes name no gateway that answers"
	}
	if server.Method != conntrack.MethodNAT {
		e.ReturnHop = "past the director, unless it is the servers' gateway: " + e.ReturnHop
	}
	if r.frame.Out != wire.NoPort {
		e.Sent = frameText(r.table.FIB, &r.frame)
	}
}

// nextHopText describes the next hop to an address in a sentence.
func nextHopText(fib *director.FIB, hop *director.NextHop, to netip.Addr) string {
	if hop.State == director.NoRoute {
		return "no route to " + to.String() + " by an interface of the director"
	}
	port := fib.Ports[hop.Link.Port].Name
	if hop.State == director.Unresolved {
		return fmt.Sprintf("by %s, but the next hop's hardware address is not known: it has not answered", port)
	}
	return fmt.Sprintf("by %s to %s, MTU %d", port, hop.Link.Dst, hop.MTU)
}

// frameText describes a frame that leaves: its port, hardware addresses, and the endpoints
// of the outermost packet.
func frameText(fib *director.FIB, f *wire.Frame) string {
	var p wire.Packet
	wire.Parse(f, &p)
	link := f.Bytes()
	endpoints := fmt.Sprintf("%s > %s", addrPort(p.Src, p.SrcPort), addrPort(p.Dst, p.DstPort))
	if p.SrcPort == 0 && p.DstPort == 0 {
		endpoints = fmt.Sprintf("%s > %s protocol %d", p.Src, p.Dst, p.Proto)
	}
	port := fib.Ports[f.Out].Name
	if vlan, _, ok := wire.VLAN(f); ok {
		port += fmt.Sprintf(", VLAN %d,", vlan)
	}
	return fmt.Sprintf("by %s from %s to %s: %s", port, wire.MAC(link[6:12]), wire.MAC(link[:6]), endpoints)
}

// why returns how the service was found, or what becomes of the packet without one.
func (r *simulation) why() string {
	addr, port, proto := r.probe.Virtual.Addr(), r.probe.Virtual.Port(), r.probe.Proto
	unserved := fmt.Sprintf("no service of %s takes %s port %d", addr, proto, port)
	vip, isVIP := r.table.VIPs.Get(wire.AddrFrom(addr))
	switch {
	case r.verdict == director.DroppedStandby:
		return "another director serves " + addr.String() + "; this one is on standby for it"
	case r.service != nil && r.verdict == director.NotOurs:
		return "the director is on standby, and the host gets what is sent to its own addresses (backup_only)"
	case r.service != nil && r.service.FWMark != 0:
		return "a mark rule gives the packet its mark"
	case r.service != nil && r.service.Port == wire.PortFTP && port != wire.PortFTP:
		return "it is persistent and on FTP's port, so FTP's data connections belong to it"
	case r.service != nil && r.service.Port == 0:
		return "it takes every port of its address that no other service has"
	case r.service != nil:
		return "it has the packet's protocol, address and port"
	case r.conn != nil:
		return "but the packet belongs to a connection that another one announced"
	case !isVIP:
		return fmt.Sprintf("no service has the address %s; the packet is the host's", addr)
	case vip.DirectorOnly:
		return unserved + ", and the host does not hold the address: refused as by a host"
	}
	return unserved + "; the host holds the address and gets the packet"
}

// chosenBy returns what decided on the server.
func (r *simulation) chosenBy() string {
	switch {
	case r.conn != nil && r.conn.NoClientPort:
		return "what its control connection announced"
	case r.conn != nil:
		return "its conn"
	case r.template != nil && r.chosen().ID == r.template.ServerID:
		return "the client's template"
	}
	if r.chosen().ID == r.compiled.Sorry {
		return "no server takes it: the sorry server"
	}
	return "scheduler " + r.service.Scheduler
}

func (r *simulation) candidates() []api.Candidate {
	var list []api.Candidate
	for i := range r.schedServers {
		s := &r.schedServers[i]
		c := api.Candidate{Server: r.servers[s.ID], Active: s.Active.Load(), Inactive: s.Inactive.Load()}
		switch {
		case s.Down:
			c.Excluded = "down"
		case c.Server.Admin == config.AdminDrain:
			c.Excluded = "drained"
		case s.Weight == 0:
			c.Excluded = "weight 0"
		case s.Overload.Load():
			c.Excluded = fmt.Sprintf("overloaded: upper threshold %d", c.Server.Upper)
		}
		list = append(list, c)
	}
	return list
}

// hiddenFrames lists what the host's stack does not see of the service.
func (r *simulation) hiddenFrames(desired *compile.Desired) []string {
	svc := r.service
	list := []string{"everything to " + svc.ServiceKey.String()}
	if vip, _ := r.table.VIPs.Get(wire.AddrFrom(r.probe.Virtual.Addr())); vip.DirectorOnly {
		list = []string{"everything to " + r.probe.Virtual.Addr().String()}
	}
	for i := range svc.Servers {
		if svc.Servers[i].Method != config.MethodNAT {
			continue
		}
		for _, s := range desired.ReplyRanges(svc.ServiceKey, svc.Servers[i].ServerKey) {
			port := fmt.Sprint("port ", config.PortRange{First: s.First, Last: s.Last})
			if s.First == 0 && s.Last == 65535 {
				port = "any port"
			}
			text := fmt.Sprintf("from %s %s %s, unless for the host itself", config.Proto(s.Proto), s.Net.Addr(), port)
			if !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

// settingsList lists the settings that matter to the packet.
func (r *simulation) settingsList() []config.Setting {
	matters := map[string]bool{
		"": true, r.probe.Proto.Word(): true,
		"persistence": r.service.Persist > 0, "helper": r.helper() != "",
	}
	return slices.DeleteFunc(r.settings.List(), func(k config.Setting) bool { return !matters[k.Applies] })
}

// connStatus returns a conn for listings.
func connStatus(s *conntrack.Snapshot) *api.ConnStatus {
	return &api.ConnStatus{
		Proto:   config.Proto(s.Proto),
		Expires: uint32(s.Expires / conntrack.Second),
		State:   s.State.String(),
		Client:  addrPort(s.Client, s.ClientPort),
		Virtual: addrPort(s.VIP, s.VPort),
		Server:  addrPort(s.Server, s.SPort),
		Age:     uint32(s.Age / conntrack.Second),
		Live:    s.CarriesData(),
	}
}

// findInPort returns the port and the source hardware address by which the packet arrives. The
// port is the one named, or the one to the client, or the first.
func findInPort(fib *director.FIB, p api.Probe) (port uint16, src wire.MAC, err error) {
	hop := fib.NextHop(wire.AddrFrom(p.Client.Addr()))
	if p.InInterface == "" {
		return hop.Link.Port, hop.Link.Dst, nil
	}
	var names []string
	for i := range fib.Ports {
		if names = append(names, fib.Ports[i].Name); names[i] == p.InInterface {
			if hop.Link.Port == uint16(i) {
				src = hop.Link.Dst
			}
			return uint16(i), src, nil
		}
	}
	return 0, src, config.Errorf(syscall.EINVAL, "the director does not run on interface %q; it does on %s",
		p.InInterface, strings.Join(names, ", "))
}

// simulation is a packet that went through the director with copies of its data.
type simulation struct {
	probe        api.Probe
	inPort       uint16
	srcMAC       wire.MAC
	table        *director.Table   // a copy
	shared       *director.Servers // of the table that it is a copy of
	service      *config.Service   // nil: none
	compiled     *director.Service
	schedServers []sched.Server
	servers      map[uint32]config.Server // by ID
	settings     *config.Settings         // of the service
	hidden       []string                 // what the host's stack does not see of the service
	now          conntrack.Tick

	conn, template *conntrack.Snapshot
	verdict        director.Verdict
	frame          wire.Frame
}

// helper returns how the helper of the packet's connection helps it; "": there is none.
func (r *simulation) helper() string {
	server := r.chosen()
	if server == nil || server.Method != conntrack.MethodNAT || r.compiled == nil || r.compiled.Helper == nil {
		return ""
	}
	if id, ok := r.compiled.Helper.At(uint8(r.probe.Proto), r.probe.Virtual.Port()); ok {
		return helper.Registry[id].Name + ": the connections it announces reach the same server"
	}
	return ""
}
