package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"uvs/ctl/ipvsadm"
)

// manVerb writes the manual: uvs(8), a page for every verb, and uvs.yaml(5). Prose is in
// docs/uvs.8: its subsections are the descriptions of the verbs that their headings name. Synopses,
// options and examples are those of the verbs; what a file can have is described by the types of
// the configuration, and docs/example.yaml, beside the prose, is its example.
func manVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "man DIR", Short: "write the pages of the manual", Hidden: true, Example: "uvs man man",
	}
	source := cmd.Flags().String("source", "docs/uvs.8", "`FILE` with the prose")
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		prose, err := os.ReadFile(*source)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(words[0], 0o755); err != nil {
			return err
		}
		example, err := os.ReadFile(filepath.Join(filepath.Dir(*source), "example.yaml"))
		if err != nil {
			return err
		}
		for name, page := range manual(cmd.Root(), string(prose), string(example)) {
			if err := os.WriteFile(filepath.Join(words[0], name), []byte(page), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// manual returns the pages by the names of their files.
func manual(root *cobra.Command, prose, example string) map[string]string {
	pages := map[string]string{}
	date, _, _ := strings.Cut(prose[strings.Index(prose, ".Dd"):], "\n")
	sections := subsections(prose)
	eachVerb(root, func(cmd *cobra.Command) {
		switch {
		case hiddenBelow(cmd) || cmd.DisableFlagParsing && cmd.Name() != "exec":
		case !cmd.HasParent():
			pages["uvs.8"] = strings.Replace(prose, ".\\\" VERBS\n", verbList(cmd), 1)
		default:
			pages[pageName(cmd)+".8"] = manualPage(cmd, date, sections)
		}
	})
	pages["uvs.yaml.5"] = filePage(date, sections["Configuration files"], example)
	pages["ipvsadm.8"] = ipvsadm.Manual(date)
	return pages
}

// hiddenBelow reports whether a command or one above it is hidden.
func hiddenBelow(cmd *cobra.Command) bool {
	return cmd.Hidden || cmd.HasParent() && hiddenBelow(cmd.Parent())
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// subsections returns the texts of the prose's subsections, by the verbs in their headings.
func subsections(prose string) map[string]string {
	sections := map[string]string{}
	for _, section := range strings.Split(prose, "\n.Ss ")[1:] {
		heading, text, _ := strings.Cut(section, "\n")
		text, _, _ = strings.Cut(text, "\n.Sh ")
		for verb := range strings.SplitSeq(heading, ", ") {
			sections[verb] = strings.TrimSpace(text)
		}
	}
	return sections
}

// verbList lists the verbs of uvs, by group.
func verbList(root *cobra.Command) string {
	var b strings.Builder
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, ".Ss %s\n.Bl -tag -width indent\n", g.Title)
		for _, cmd := range root.Commands() {
			if cmd.GroupID != g.ID || hiddenBelow(cmd) {
				continue
			}
			eachVerb(cmd, func(verb *cobra.Command) {
				if !verb.HasSubCommands() {
					fmt.Fprintf(&b, ".It Cm %s\n%s\n", manText(useOf(verb)), sentence(verb.Short))
				}
			})
		}
		b.WriteString(".El\n")
	}
	return b.String()
}

// useOf returns the usage line of a verb without "uvs".
func useOf(cmd *cobra.Command) string { return strings.TrimPrefix(synopsis(cmd), "uvs ") }

// manualPage returns the page of a verb or noun.
func manualPage(cmd *cobra.Command, date string, sections map[string]string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	name, text := pageName(cmd), sections[cmd.CommandPath()]
	if text == "" && !cmd.HasSubCommands() {
		text = sections[cmd.Parent().CommandPath()]
	}
	line("%s\n.Dt %s 8\n.Os\n.Sh NAME\n.Nm %s\n.Nd %s", date, strings.ToUpper(name), name, manText(cmd.Short))
	line(".Sh SYNOPSIS\n.Nm uvs\n.Cm %s", manText(useOf(cmd)))
	line(".Sh DESCRIPTION\n%s", sentence(cmd.Short))
	if cmd.Long != "" {
		line("%s", manText(cmd.Long))
	}
	if text != "" {
		line(".Pp\n%s", text)
	}
	if cmd.HasSubCommands() {
		line(".Bl -tag -width indent")
		for _, verb := range cmd.Commands() {
			line(".It Xr %s 8\n%s", pageName(verb), sentence(verb.Short))
		}
		line(".El")
	}
	options := func(title string, flags *pflag.FlagSet) {
		var items strings.Builder
		flags.VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(text, ".It Fl -"+f.Name) {
				items.WriteString(manualOption(f))
			}
		})
		if items.Len() > 0 {
			line(".Sh %s\n.Bl -tag -width indent\n%s.El", title, items.String())
		}
	}
	options("OPTIONS", cmd.NonInheritedFlags())
	options("OPTIONS OF EVERY VERB", cmd.InheritedFlags())
	line(".Sh EXIT STATUS\n0 done, %d refused, %d wrong usage, %d no director.", exitRefused, exitUsage, exitNoDirector)
	if cmd.Example != "" {
		line(".Sh EXAMPLES")
		for example := range strings.SplitSeq(cmd.Example, "\n") {
			line(".Dl %s", manText(example))
		}
	}
	line(".Sh SEE ALSO\n.Xr uvs 8")
	return b.String()
}

func manualOption(f *pflag.Flag) string {
	placeholder, usage := pflag.UnquoteUsage(f)
	spelling := "Fl -" + f.Name
	if f.Shorthand != "" && f.Shorthand != f.Name {
		spelling = "Fl " + f.Shorthand + " , " + spelling
	}
	if f.NoOptDefVal != "" && placeholder != "" {
		spelling += " Ns Op = Ns Ar " + placeholder
	} else if placeholder != "" {
		spelling += " Ar " + placeholder
	}
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
		usage += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	return fmt.Sprintf(".It %s\n%s\n", spelling, sentence(usage))
}

// sentence writes a short text as a sentence of a page.
func sentence(s string) string { return manText(strings.ToUpper(s[:1])+s[1:]) + "." }

// manText protects a text from roff.
func manText(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	if s != "" && (s[0] == '.' || s[0] == '\'') {
		s = `\&` + s
	}
	return s
}
