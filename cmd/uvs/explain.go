package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// explainVerb explains what the director would do with a client's packet.
func explainVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "explain PROTOCOL CLIENT VIRTUAL", Short: "explain what happens to a client's packet, and why",
		Example: "uvs explain tcp 198.51.100.7:4711 192.0.2.10:80",
		Args:    cobra.ArbitraryArgs,
	}
	in := cmd.Flags().String("in-interface", "",
		"the `INTERFACE` the packet arrives on (default: that of the route to the client)")
	return listing{
		columns: "NAME VALUE", headless: true, single: true,
		list: func(words []string, add addRow) error {
			if len(words) != 3 {
				return misused("want protocol, client and VIP, as tcp 198.51.100.7:4711 192.0.2.1:80")
			}
			q, err := api.ParseProbe(url.Values{
				"proto": {words[0]}, "client": {words[1]}, "virtual": {numberPort(words[2], words[0])},
				"in-interface": {*in},
			})
			if err != nil {
				return usageError{err}
			}
			e, err := query(func(c *api.Client) (api.Explanation, error) { return c.Explain(q) })
			if err != nil {
				return err
			}
			addExplanation(&e, add)
			return nil
		},
	}.of(cmd)
}

// addExplanation adds a row for each part of the explanation.
func addExplanation(e *api.Explanation, add addRow) {
	var value any = e
	line := func(name, format string, args ...any) {
		add(value, name, fmt.Sprintf(format, args...))
		value = nil
	}
	line("packet", "%s %s > %s, in by %s", e.Probe.Proto, e.Probe.Client, e.Probe.Virtual,
		e.Probe.InInterface)
	if e.Service == nil {
		line("service", "none: %s", e.Why)
	} else {
		line("service", "%s scheduler %s: %s", e.Service.ServiceKey, e.Service.Scheduler, e.Why)
	}
	if e.Service == nil && e.Conn == nil {
		line("verdict", "%s", e.Verdict)
		return
	}
	line("conn", "%s", connText(e.Conn, "none; this packet begins one"))
	if e.Service != nil && e.Service.Persist > 0 {
		line("template", "%s", connText(e.Template, fmt.Sprintf("none; this packet begins one, for %d s",
			e.Service.Persist)))
	}
	name := "servers"
	for _, c := range e.Candidates {
		line(name, "%s", candidateText(&c))
		name = " "
	}
	if e.Server == nil {
		line("server", "none is eligible")
	} else {
		line("server", "%s by %s", e.Server.ServerKey, e.By)
		line("next hop", "%s %s", e.Server.Method, e.NextHop)
		if e.Sent != "" {
			line("sent", "%s", e.Sent)
		}
		line("back", "%s", e.ReturnHop)
	}
	if e.Helper != "" {
		line("helper", "%s", e.Helper)
	}
	line("verdict", "%s", e.Verdict)
	if e.Service != nil {
		line("guard", "%s", strings.Join(e.Hidden, "; "))
		line("settings", "%s", settingsText(e.Settings))
	}
}

// connText describes a conn or a template in one line.
func connText(c *api.ConnStatus, none string) string {
	if c == nil {
		return none
	}
	return fmt.Sprintf("%s, %d s left, at server %s", c.State, c.Expires, c.Server)
}

func candidateText(c *api.Candidate) string {
	text := fmt.Sprintf("%s %s weight %d active %d inactive %d", c.Server.ServerKey, c.Server.Method, c.Server.Weight,
		c.Active, c.Inactive)
	if c.Excluded != "" {
		return text + ", not eligible: " + c.Excluded
	}
	return text + ", eligible"
}

func settingsText(list []config.Setting) string {
	var words []string
	for _, k := range list {
		words = append(words, k.Name+"="+k.Shown(k.Value))
	}
	return strings.Join(words, " ")
}
