package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/ipvsadm"
	"uvs/fwd/tunnel"
)

// saveVerb prints the director's whole configuration.
func saveVerb() *cobra.Command {
	return &cobra.Command{
		Use: "save", Short: "print the whole configuration, as commands", Example: "uvs save >uvs.conf",
		RunE: func(*cobra.Command, []string) error {
			c, err := dial()
			if err != nil {
				return err
			}
			var text bytes.Buffer
			if err := writeConfig(&text, c); err != nil {
				return err
			}
			_, err = text.WriteTo(os.Stdout)
			return err
		},
	}
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

// restoreVerb replaces the director's configuration by the output of `uvs save`, whole or not
// at all.
func restoreVerb() *cobra.Command {
	return &cobra.Command{
		Use: "restore", Short: "replace the configuration by the commands on standard input",
		Example: "uvs save | uvs restore",
		RunE:    func(*cobra.Command, []string) error { return restore(os.Stdin) },
	}
}

func restore(in io.Reader) error {
	ops, lines, err := readOps(in)
	if err != nil {
		return fmt.Errorf("nothing changed: %w", err)
	}
	c, err := dial()
	if err != nil {
		return err
	}
	if len(ops) == 0 {
		return errors.New("nothing changed: the input has no command; `uvs ipvsadm -C` removes all services")
	}
	for i, err := range c.Replace(ops) {
		if err != nil {
			return fmt.Errorf("nothing changed: line %d: %w", lines[i], err)
		}
	}
	return nil
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
