package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/ipvsadm"
	"uvs/fwd/tunnel"
)

// saveMain prints the director's whole configuration: uvs save.
func saveMain(args []string) int {
	if code, ok := parse(newFlags("save"), args); !ok {
		return code
	}
	c, err := dial()
	if err != nil {
		return failed(err)
	}
	var text bytes.Buffer
	if err := writeConfig(&text, c); err != nil {
		return failed(err)
	}
	_, err = text.WriteTo(os.Stdout)
	return result(err)
}

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

// restoreMain replaces the director's configuration by the output of `uvs
// save`, whole or not at all: uvs restore < FILE.
func restoreMain(args []string) int {
	if code, ok := parse(newFlags("restore"), args); !ok {
		return code
	}
	ops, lines, err := readOps(os.Stdin)
	if err != nil {
		return failed(fmt.Errorf("nothing changed: %w", err))
	}
	c, err := dial()
	if err != nil {
		return failed(err)
	}
	if len(ops) == 0 {
		return failed(errors.New("nothing changed: the input has no command; `uvs ipvsadm -C` removes all services"))
	}
	for i, err := range c.Replace(ops) {
		if err != nil {
			return failed(fmt.Errorf("nothing changed: line %d: %w", lines[i], err))
		}
	}
	return 0
}

// readOps reads the operations of commands, one per line, and their line
// numbers. It skips empty lines and those that begin with #.
func readOps(r io.Reader) (ops []config.Op, lines []int, err error) {
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		words := strings.Fields(in.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		op, err := parseLine(words)
		if err != nil {
			return nil, nil, fmt.Errorf("line %d: %s", n, strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		ops, lines = append(ops, op), append(lines, n)
	}
	return ops, lines, in.Err()
}

// parseLine returns the operation of a command that `uvs save` prints.
func parseLine(words []string) (config.Op, error) {
	args := words[1:]
	switch words[0] {
	case "ipvsadm":
		return ipvsadm.Operation(args)
	case "set":
		return newSetLine().parse(args)
	case "sorry":
		return newSorryLine().parse(args)
	case "down":
		return newAdminLine(config.AdminDown).parse(args)
	case "drain":
		return newAdminLine(config.AdminDrain).parse(args)
	case "mark":
		if len(args) > 0 && args[0] == "add" {
			return newMarkLine().parse(args[1:])
		}
	}
	return config.Op{}, fmt.Errorf("%q is none of the commands that uvs save prints: "+
		"ipvsadm, set, mark add, sorry, down, drain", words[0])
}
