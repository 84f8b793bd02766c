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

// Explain answers a question without changing anything: the packet is played
// through the director's own code over copies of all that it would touch.
func (m *Manager) Explain(q api.Probe) (*api.Explanation, error) {
	r, err := m.simulate(q)
	if err != nil {
		return nil, err
	}
	e := &api.Explanation{Probe: q, Verdict: r.verdict.String(), Service: r.service, Why: r.why()}
	e.Probe.InInterface = r.table.FIB.Ports[r.in].Name
	if r.conn != nil {
		e.Conn = status(r.conn)
	}
	if r.template != nil {
		e.Template = status(r.template)
	}
	e.Candidates = r.candidates()
	if server := r.chosen(); server != nil {
		describe(e, r, server)
	}
	if r.service != nil {
		e.Hidden = r.hidden()
		e.Helper = r.helper()
		e.Settings = r.settingsList()
	}
	return e, nil
}

// describe fills in what is known once there is a server.
func describe(e *api.Explanation, r *simulation, server *director.Server) {
	last := r.servers[server.ID]
	e.Server, e.By = &last, r.by()
	way := server.NextHop
	e.Way = describeNextHop(r.table.FIB, &way, last.Addr)
	if r.table.FIB.IsLocal(server.Addr) {
		e.Way = hostText(way)
	}
	if server.Method == conntrack.MethodTunnel && way.State != director.NoRoute {
		e.Way += fmt.Sprintf(", of which %d for the tunnel header %s > %s", server.Tunnel.Overhead(), server.Tunnel.Src, server.Tunnel.Dst)
	}
	var last64 uint64
	if r.conn != nil {
		last64 = r.conn.ReturnHop
	}
	client := r.probe.Client.Addr()
	back := r.table.FIB.ReturnHop(wire.AddrFrom(client), last64)
	e.Back = describeNextHop(r.table.FIB, &back, client)
	if back.State != director.Resolved && r.conn == nil {
		e.Back += "; if it is on the link: where its packet comes from"
	}
	if server.Method != conntrack.MethodMasq {
		e.Back = "past the director, unless it is the servers' gateway: " + e.Back
	}
	if r.frame.Out != wire.NoPort {
		e.Sent = describeFrame(r.table.FIB, &r.frame)
	}
}

// describeNextHop says how packets get to an address, or why they cannot.
func describeNextHop(ways *director.FIB, way *director.NextHop, to netip.Addr) string {
	if way.State == director.NoRoute {
		return "no route to " + to.String() + " by an interface of the director"
	}
	port := ways.Ports[way.Link.Port].Name
	if way.State == director.Unresolved {
		return fmt.Sprintf("by %s, but the next hop's hardware address is not known: it does not answer", port)
	}
	return fmt.Sprintf("by %s to %s, MTU %d", port, way.Link.Dst, way.MTU)
}

// describeFrame names what is on its way out: port, hardware addresses, and the
// ends of the outermost packet.
func describeFrame(ways *director.FIB, f *wire.Frame) string {
	var p wire.Packet
	wire.Parse(f, &p)
	link := f.Bytes()
	ends := fmt.Sprintf("%s > %s", addrPort(p.Src, p.SrcPort), addrPort(p.Dst, p.DstPort))
	if p.SrcPort == 0 && p.DstPort == 0 {
		ends = fmt.Sprintf("%s > %s protocol %d", p.Src, p.Dst, p.Proto)
	}
	port := ways.Ports[f.Out].Name
	if vlan, _, ok := wire.VLAN(f); ok {
		port += fmt.Sprintf(", VLAN %d,", vlan)
	}
	return fmt.Sprintf("by %s from %s to %s: %s", port, wire.MAC(link[6:12]), wire.MAC(link[:6]), ends)
}

// why says how the service was found, or what else became of the packet.
func (r *simulation) why() string {
	vip, isVIP := r.table.VIPs[wire.AddrFrom(r.probe.Virtual.Addr())]
	switch {
	case r.service != nil && r.service.FWMark != 0:
		return "a mark rule gives the packet its mark"
	case r.service != nil && r.service.Port == wire.PortFTP && r.probe.Virtual.Port() != wire.PortFTP:
		return "it is persistent and on FTP's port, so FTP's data is its too"
	case r.service != nil && r.service.Port == 0:
		return "it takes every port of its address that no other service has"
	case r.service != nil:
		return "it has the packet's protocol, address and port"
	case r.conn != nil:
		return "but the packet belongs to a connection that another one announced"
	case !isVIP:
		return fmt.Sprintf("no service has the address %s; the packet is the host's", r.probe.Virtual.Addr())
	case vip.Ours:
		return fmt.Sprintf("no service of %s takes %s port %d, and the host does not hold the address: refused as by a host", r.probe.Virtual.Addr(), config.ProtoName(r.probe.Proto), r.probe.Virtual.Port())
	}
	return fmt.Sprintf("no service of %s takes %s port %d; the host holds the address and gets the packet", r.probe.Virtual.Addr(), config.ProtoName(r.probe.Proto), r.probe.Virtual.Port())
}

// by says what chose the server.
func (r *simulation) by() string {
	switch {
	case r.conn != nil && r.conn.NoClientPort:
		return "what its control connection announced"
	case r.conn != nil:
		return "its conn"
	case r.template != nil && r.chosen().ID == r.template.ServerID:
		return "the client's template"
	}
	if r.chosen().ID == r.running.Sorry {
		return "no server takes it: the sorry server"
	}
	return "scheduler " + r.service.Scheduler
}

func (r *simulation) candidates() []api.Candidate {
	var list []api.Candidate
	for i := range r.list {
		s := &r.list[i]
		c := api.Candidate{Server: r.servers[s.ID], Active: s.Active.Load(), Inactive: s.Inactive.Load()}
		switch {
		case s.Down:
			c.Excluded = "down"
		case s.Weight == 0:
			c.Excluded = "weight 0"
		case s.Overload.Load():
			c.Excluded = fmt.Sprintf("overloaded: upper threshold %d", c.Server.Upper)
		}
		list = append(list, c)
	}
	return list
}

// hidden says what of this service the host's stack does not see.
func (r *simulation) hidden() []string {
	svc := r.service
	list := []string{"everything to " + svc.ServiceKey.String()}
	if r.table.VIPs[wire.AddrFrom(r.probe.Virtual.Addr())].Ours {
		list = []string{"everything to " + r.probe.Virtual.Addr().String()}
	}
	for i := range svc.Servers {
		if svc.Servers[i].Method != config.MethodMasq {
			continue
		}
		for _, s := range r.desired.ReplyRanges(svc.ServiceKey, svc.Servers[i].ServerKey) {
			port := fmt.Sprint("port ", config.PortRange{First: s.First, Last: s.Last})
			if s.First == 0 && s.Last == 65535 {
				port = "any port"
			}
			if text := fmt.Sprintf("from %s %s %s, unless for the host itself", config.ProtoName(s.Proto), s.Net.Addr(), port); !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	return list
}

// settingsList lists the settings that matter to the packet.
func (r *simulation) settingsList() []config.Setting {
	matters := map[string]bool{
		"": true, strings.ToLower(config.ProtoName(r.probe.Proto)): true,
		"persistence": r.service.Persist > 0, "helper": r.helper() != "",
	}
	return slices.DeleteFunc(r.settings.List(), func(k config.Setting) bool { return !matters[k.Applies] })
}

// status is a conn as listings show it.
func status(s *conntrack.Snapshot) *api.ConnStatus {
	return &api.ConnStatus{
		Proto:   s.Proto,
		Expires: uint32(s.Expires / conntrack.Second),
		State:   s.State.String(),
		Client:  addrPort(s.Client, s.ClientPort),
		Virtual: addrPort(s.VIP, s.VPort),
		Server:  addrPort(s.Server, s.SPort),
	}
}

// inPort is the port by which the packet comes: the one named, else the one by
// which the client is reached, else the first.
func inPort(ways *director.FIB, q api.Probe) (uint16, wire.MAC, error) {
	way := ways.NextHop(wire.AddrFrom(q.Client.Addr()))
	if q.InInterface == "" {
		return way.Link.Port, way.Link.Dst, nil
	}
	var names []string
	for i, p := range ways.Ports {
		if p.Name == q.InInterface {
			mac := wire.MAC{}
			if way.Link.Port == uint16(i) {
				mac = way.Link.Dst
			}
			return uint16(i), mac, nil
		}
		names = append(names, p.Name)
	}
	return 0, wire.MAC{}, config.Errorf(syscall.EINVAL, "the director does not run on interface %q; it does on %s", q.InInterface, strings.Join(names, ", "))
}

// simulation is a question played through the director over copies.
type simulation struct {
	probe    api.Probe
	in       uint16
	from     wire.MAC
	table    *director.Table // the copy
	service  *config.Service // nil: none
	running  *director.Service
	list     []sched.Server
	servers  map[uint32]config.Server // as configured last, by ID
	settings *config.Settings         // of the service
	desired  *compile.Desired
	now      conntrack.Tick

	conn, template *conntrack.Snapshot
	verdict        director.Verdict
	frame          wire.Frame
}

// helper says for people how connections like the one asked about are helped.
func (r *simulation) helper() string {
	server := r.chosen()
	if server == nil || server.Method != conntrack.MethodMasq || r.running == nil || r.running.Helper == nil {
		return ""
	}
	if id, ok := r.running.Helper.At(r.probe.Proto, r.probe.Virtual.Port()); ok {
		return helper.Registry[id].Name + ": the connections it announces reach the same server"
	}
	return ""
}
