package ipvsadm

import (
	"strings"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// request is what a command line asks for. Which of its fields count depends
// on command, as in config.Op; given says which options were there.
type request struct {
	command  command
	given    optionSet
	service  config.Service
	server   config.Server
	timeouts config.Timeouts
	daemon   daemon
}

// parser is a request being read. Options are applied in the order they were
// written, and that order shows: -r without a port takes the port of a service
// named before it, and a netmask written before the service is an IPv4 mask.
type parser struct {
	request
	names names
	flags string // of -b, until the scheduler is known
}

// parse reads the words after "ipvsadm". Every error is a *refusal.
func parse(words []string, names names) (request, error) {
	p := parser{names: names, request: request{
		service: config.Service{Scheduler: defaultScheduler, Netmask: wholeIPv4},
		server:  config.Server{Method: config.MethodRoute, Weight: 1},
		daemon:  daemon{iface: defaultInterface},
	}}
	if len(words) == 0 {
		p.command = cmdList
		return p.request, nil
	}
	s := scanner{words: words}
	f, err := s.next()
	if err != nil || f.spelling == nil || f.command == cmdNone {
		return p.request, errHint
	}
	p.command = f.command
	if p.command == cmdHelp || p.command == cmdVersion {
		return p.request, nil
	}
	for f.spelling != nil {
		if f.set != nil {
			if err := f.set(&p, f.value); err != nil {
				return p.request, err
			}
		}
		if f, err = p.option(&s); err != nil {
			return p.request, err
		}
	}
	return p.request, p.finish(s.arguments)
}

// option reads the next option and notes that it was given.
func (p *parser) option(s *scanner) (found, error) {
	f, err := s.next()
	switch {
	case err != nil || f.spelling == nil:
		return f, err
	case f.command != cmdNone:
		return f, refuse("invalid option `%s'", f.word)
	case p.given.has(f.option):
		return f, refuse("multiple '%s' options specified", f.option)
	}
	p.given |= setOf(f.option)
	return f, nil
}

// finish checks what can only be judged when the whole line is known.
func (p *parser) finish(arguments []string) error {
	if p.command == cmdSet {
		if len(arguments) < 3 {
			return refuse("--set option requires 3 timeout values")
		}
		for i, field := range []*uint32{&p.timeouts.TCP, &p.timeouts.TCPFin, &p.timeouts.UDP} {
			n, ok := number(arguments[i], 0, maxTimeout)
			if !ok {
				return refuse("invalid timeout value `%s' specified", arguments[i])
			}
			*field = uint32(n)
		}
		arguments = arguments[3:]
	}
	if len(arguments) > 0 {
		return refuse("unexpected argument %s", arguments[0])
	}
	if err := p.finishFlags(); err != nil {
		return err
	}
	c := &commands[p.command]
	if err := c.check(p.given, c.name, "command"); err != nil {
		return err
	}
	switch p.command {
	case cmdList:
		return p.finishList()
	case cmdAddService, cmdEditService:
		return p.finishService()
	case cmdAddServer, cmdEditServer:
		return p.finishServer()
	}
	return nil
}

// finishList refuses formats that make no sense for what is listed.
func (p *parser) finishList() error {
	counters := setOf(optStats, optRate, optThresholds)
	if p.given.hasAny(setOf(optConnection, optTimeout, optDaemon)) && p.given.hasAny(counters) ||
		p.given.hasAny(setOf(optTimeout, optDaemon)) && p.given.has(optPersistentConn) {
		return refuse("options conflicts in the list command")
	}
	return nil
}

// finishFlags makes scheduler flags of what -b said.
func (p *parser) finishFlags() error {
	for name := range strings.SplitSeq(p.flags, ",") {
		if name == "" {
			continue
		}
		flag, known := sched.Flag(name)
		if !known {
			return refuse("invalid scheduler flag `%s'", name)
		}
		if flag.Scheduler != "" && flag.Scheduler != p.service.Scheduler {
			return refuse("incompatible scheduler flag `%s'", name)
		}
		p.service.SchedFlags |= uint32(flag.Flag)
	}
	return nil
}

// finishService checks a service to be added or edited.
func (p *parser) finishService() error {
	v := &p.service
	switch {
	case v.FWMark != 0:
		return nil
	case v.Port == 0 && v.Persist == 0:
		return refuse("Zero port specified for non-persistent service")
	case v.OPS && v.Proto != wire.ProtoUDP:
		return refuse("One-Packet Scheduling is only for UDP virtual services")
	}
	return nil
}

// tunnelRule has the options that tunnels of an encapsulation take.
func tunnelRule(e tunnel.Encapsulation) rule {
	r := rule{may: setOf(optTunType)}
	if e.Port() != 0 {
		r.must = setOf(optTunPort)
	}
	if e.MaxFlags() > 0 {
		for _, c := range tunnelCsums[:e.MaxFlags()+1] {
			r.oneOf |= setOf(c.option)
		}
	}
	return r
}

// finishServer checks a server to be added or edited. Only NAT can change a
// port, and a mark has none, so that under DR and tunnels the server of an
// address service silently has the port of its service.
func (p *parser) finishServer() error {
	v, s := &p.service, &p.server
	if s.Addr.Is6() != v.IPv6 && s.Method != config.MethodTunnel {
		return refuse("Different address family is allowed only for tunneling servers")
	}
	if s.Method == config.MethodTunnel {
		e := s.Tunnel.Type.Encapsulation()
		if err := tunnelRule(e).check(p.given&aboutTunnel, e.Name(), "tunnel type"); err != nil {
			return err
		}
	} else if p.given.hasAny(aboutTunnel) {
		return refuse("Tunnel options conflict with forward method")
	}
	if v.FWMark == 0 && s.Method != config.MethodMasq {
		s.Port = v.Port
	}
	return nil
}
