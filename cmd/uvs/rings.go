package main

import (
	"time"

	"github.com/rs/zerolog"

	"uvs/ctl/guard"
	"uvs/ctl/localnode"
	"uvs/dataplane"
	"uvs/dataplane/director"
	"uvs/dataplane/ring"
)

// ringGroup is the rings of all workers.
type ringGroup struct {
	config ring.Config
	links  []*ring.Link
	index  []int // of each interface, when its rings were opened
	log    zerolog.Logger
}

// ringConfig returns the configuration of the rings.
func ringConfig(cfg *runConfig, localNode *localnode.Pair) ring.Config {
	c := ring.Config{Spin: time.Duration(cfg.Spin)}
	for _, name := range cfg.Interfaces {
		c.Interfaces = append(c.Interfaces, ring.Interface{Name: name})
	}
	if localNode != nil {
		c.Mark = guard.Mark
		c.Interfaces = append(c.Interfaces, ring.Interface{Name: localNode.Name, Netns: localNode.DirectorNetns})
	}
	return c
}

// openRings opens the rings on the interfaces that hostNet has, with sockets that open opens.
func openRings(
	cfg *runConfig, log zerolog.Logger, hostNet *director.HostNet, localNode *localnode.Pair,
	open func(i int) ([]ring.Sockets, error),
) (*ringGroup, error) {
	r := &ringGroup{config: ringConfig(cfg, localNode), log: log}
	r.config.Open = open
	for i := range cfg.Interfaces {
		r.index = append(r.index, hostNet.Ports[i].Index)
	}
	var err error
	r.links, err = ring.OpenGroup(r.config, cfg.Workers)
	return r, err
}

// planeLinks returns the links in the plane's type.
func (r *ringGroup) planeLinks() (links []dataplane.Link) {
	for _, l := range r.links {
		links = append(links, l)
	}
	return links
}

// reopen opens the rings again on an interface that was deleted and made again.
func (r *ringGroup) reopen(hostNet *director.HostNet) {
	for i, port := range hostNet.Ports[:len(r.index)] {
		if port.Index == 0 || port.Index == r.index[i] {
			continue
		}
		if err := ring.Reopen(r.links, r.config, i); err != nil {
			r.log.Error().Err(err).Str("interface", port.Name).
				Msg("interface is back, but cannot be used; trying again when it changes")
			continue
		}
		r.index[i] = port.Index
	}
}

func (r *ringGroup) close() {
	for _, l := range r.links {
		l.Close()
	}
}
