package main

import (
	"fmt"
	"strings"

	"uvs/ctl/rest"
)

// sentences writes a comment as sentences of a page, each on its line.
func sentences(s string) string {
	return strings.ReplaceAll(manText(strings.TrimSuffix(s, ".")), ". ", ".\n") + "."
}

// filePage returns uvs.yaml(5): about is the prose, and example is a file with everything.
func filePage(date, about, example string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s\n.Dt UVS.YAML 5\n.Os\n.Sh NAME\n.Nm uvs.yaml\n.Nd configuration file of uvs", date)
	line(".Sh SYNOPSIS\n.Nm uvs\n.Cm run --config\n.Pa /etc/uvs/uvs.yaml")
	line(".Sh DESCRIPTION\n%s\n.Sh MEMBERS", about)
	for _, s := range rest.Reference() {
		title := "The file"
		if s.Path != "" {
			title = manText(s.Path)
		}
		line(".Ss %s\n%s\n.Bl -tag -width indent", title, sentences("This "+s.About))
		for _, m := range s.Members {
			about := m.About
			if !strings.HasPrefix(about, m.Name+" ") {
				about = strings.ToUpper(about[:1]) + about[1:]
			}
			line(".It Cm %s\n%s\nValues: %s.", m.Name, sentences(about), manText(m.Values))
			if m.Default != "" {
				line("Default: %s.", m.Default)
			}
		}
		line(".El")
	}
	line("Settings and their values are in\n.Xr uvs 8 ;\n.Dq uvs setting list -o wide\nlists them.")
	line(".Sh FILES\n.Bl -tag -width indent\n.It Pa /etc/uvs/uvs.yaml\nThe file by custom; there is no default.\n.El")
	line(".Sh EXAMPLES\n.Bd -literal")
	for text := range strings.SplitSeq(strings.TrimSuffix(example, "\n"), "\n") {
		line("%s", manText(text))
	}
	line(".Ed\n.Sh SEE ALSO\n.Xr uvs 8 ,\n.Xr uvs-apply 8 ,\n.Xr uvs-check 8 ,\n.Xr uvs-schema 8")
	return b.String()
}
