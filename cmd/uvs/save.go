package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/ipvsadm"
	"uvs/fwd/tunnel"
)

// writeConfig writes the commands, one per line, that give an empty director
// this configuration. They are settings that differ from the default, mark
// rules, admin states, services as ipvsadm -S prints them, and what only uvs has of services.
func writeConfig(w io.Writer, c *api.Client) error {
	if err := writeSettings(w, c, nil); err != nil {
		return err
	}
	marks, err := c.Marks()
	if err != nil {
		return err
	}
	for _, r := range marks {
		fmt.Fprintf(w, "mark add %s\n", r)
	}
	if err := writeAdmin(w, c); err != nil {
		return err
	}
	services, err := c.Services()
	if err != nil {
		return err
	}
	for i := range services {
		s := &services[i]
		var lines bytes.Buffer
		ipvsadm.Commands(&lines, *s)
		for line := range strings.Lines(lines.String()) {
			fmt.Fprint(w, "ipvsadm ", line)
		}
		if err := writeSettings(w, c, &s.ServiceKey); err != nil {
			return err
		}
		if s.Sorry != nil {
			fmt.Fprintf(w, "sorry --service %s %s\n", s.Text(), sorryText(&s.Sorry.Server))
		}
	}
	return nil
}

// sorryText returns a sorry server in the form that `uvs sorry` takes.
func sorryText(s *config.Server) string {
	method := map[config.Method]string{config.MethodDR: "-g", config.MethodTunnel: "-i", config.MethodNAT: "-m"}
	text := fmt.Sprintf("%s %s", s.ServerKey, method[s.Method])
	if s.Tunnel.Type != tunnel.IPIP {
		text += fmt.Sprintf(" --tun-type %s", s.Tunnel.Type)
	}
	if s.Tunnel.Port != 0 {
		text += fmt.Sprintf(" --tun-port %d", s.Tunnel.Port)
	}
	if s.Tunnel.Checksum == tunnel.Csum {
		text += " --tun-csum"
	}
	return text
}

// writeSettings writes the settings of the director, or of a service, that
// differ from their defaults.
func writeSettings(w io.Writer, c *api.Client, of *config.ServiceKey) error {
	list, err := c.Settings(of)
	if err != nil {
		return err
	}
	for _, k := range list {
		switch {
		case k.Value == k.Default:
		case of == nil:
			fmt.Fprintf(w, "set %s=%s\n", k.Name, k.Shown(k.Value))
		default:
			fmt.Fprintf(w, "set --service %s %s=%s\n", of.Text(), k.Name, k.Shown(k.Value))
		}
	}
	return nil
}

// parseLine returns the operation of a command that `uvs save` prints.
func parseLine(words []string) (config.Op, error) {
	args := words[1:]
	switch words[0] {
	case "ipvsadm":
		return ipvsadm.Operation(args)
	case "set":
		return settingSet().parse(args)
	case "sorry":
		return newSorryLine().parse(args)
	case "down":
		return newAdmin(config.AdminDown, "", "", nil, nil).parse(args)
	case "drain":
		return newAdmin(config.AdminDrain, "", "", nil, nil).parse(args)
	case "mark":
		if len(args) > 0 && args[0] == "add" {
			return markAdd().parse(args[1:])
		}
	}
	return config.Op{}, fmt.Errorf("%q is none of the commands that uvs save prints: "+
		"ipvsadm, set, mark add, sorry, down, drain", words[0])
}
