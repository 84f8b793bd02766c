package ipvsadm

import (
	"strings"

	"uvs/ctl/config"
	"uvs/dataplane/wire"
	"uvs/fwd/tunnel"
	"uvs/sched"
)

// request is a parsed command line. Which fields it uses depends on command, as in
// config.Op.
type request struct {
	command  command
	given    optionSet
	service  config.Service
	server   config.Server
	timeouts config.Timeouts
	daemon   daemon
}

// parser parses a request. It applies options in the order given, which matters. -r without
// a port takes the port of a service given before. A netmask given before the service is
// an IPv4 mask.
type parser struct {
	request
	names names
	flags string // of -b; they depend on the scheduler
}

// parse parses the words after "ipvsadm". Every error is a *refusal.
func parse(words []string, names names) (request, error) {
	p := parser{names: names, request: request{
		service: config.Service{Scheduler: defaultScheduler},
		server:  config.Server{Method: config.MethodDR, Weight: 1},
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

// option scans the next option and adds it to given.
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

// finish checks what depends on the whole line.
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

// finishList refuses formats that do not fit the list.
func (p *parser) finishList() error {
	counters := setOf(optStats, optRate, optThresholds)
	if p.given.hasAny(setOf(optConnection, optTimeout, optDaemon)) && p.given.hasAny(counters) ||
		p.given.hasAny(setOf(optTimeout, optDaemon)) && p.given.has(optPersistentConn) {
		return refuse("options conflicts in the list command")
	}
	return nil
}

// finishFlags parses the scheduler flags of -b.
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
		p.service.SchedFlags |= config.SchedFlags(flag.Flag)
	}
	return nil
}

// finishService checks a service to add or edit.
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

// tunnelRule has the options for tunnels of an encapsulation.
func tunnelRule(e *tunnel.Encapsulation) rule {
	r := rule{may: setOf(optTunType)}
	if e.Port != 0 {
		r.must = setOf(optTunPort)
	}
	if e.MaxFlags > 0 {
		for _, c := range tunnelCsums[:e.MaxFlags+1] {
			r.oneOf |= setOf(c.option)
		}
	}
	return r
}

// finishServer checks a server to add or edit. Only NAT changes ports, so other servers get
// the port of their service, except those of a mark, which has none.
func (p *parser) finishServer() error {
	v, s := &p.service, &p.server
	if s.Addr.Is6() != v.Is6() && s.Method != config.MethodTunnel {
		return refuse("Different address family is allowed only for tunneling servers")
	}
	if s.Method == config.MethodTunnel {
		e := s.Tunnel.Type.Encapsulation()
		if err := tunnelRule(e).check(p.given&aboutTunnel, e.Name, "tunnel type"); err != nil {
			return err
		}
	} else if p.given.hasAny(aboutTunnel) {
		return refuse("Tunnel options conflict with forward method")
	}
	if v.FWMark == 0 && s.Method != config.MethodNAT {
		s.Port = v.Port
	}
	return nil
}
