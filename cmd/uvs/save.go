package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"uvs/ctl/config"
	"uvs/ctl/ipvsadm"
	"uvs/fwd/tunnel"
)

// writeConfig writes the commands, one per line, that give an empty director this
// configuration: settings, mark rules, admin states, services in the words of ipvsadm, and what
// only uvs has of services.
func writeConfig(w io.Writer, d *config.Document) {
	writeSettings(w, "set", d.Settings)
	for _, r := range d.Marks {
		fmt.Fprintf(w, "mark add %s\n", r)
	}
	writeAdmin(w, d.Admin)
	for i := range d.Services {
		s := &d.Services[i]
		var lines bytes.Buffer
		ipvsadm.Commands(&lines, s)
		for line := range strings.Lines(lines.String()) {
			fmt.Fprint(w, "ipvsadm ", line)
		}
		writeSettings(w, "set --service "+s.Text(), s.Settings)
		if s.Sorry != nil {
			fmt.Fprintf(w, "sorry --service %s %s\n", s.Text(), sorryText(s.Sorry))
		}
	}
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
	if s.Tunnel.Checksum != tunnel.NoCsum {
		text += fmt.Sprintf(" --tun-%s", s.Tunnel.Checksum)
	}
	return text
}

// writeSettings writes a command for each setting.
func writeSettings(w io.Writer, command string, values config.Values) {
	for _, word := range values.Words() {
		fmt.Fprintln(w, command, word)
	}
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
