package ipvsadm

import (
	"cmp"
	"fmt"
	"math/bits"
	"regexp"
	"strings"
)

// Manual returns ipvsadm(8): commands and options from the table of spellings, with the texts
// of -h. date is the line .Dd of the page.
func Manual(date string) string {
	help := fmt.Sprintf(helpText, tunnelHelp())
	usage, _, _ := strings.Cut(strings.TrimPrefix(help, "Usage:\n"), "\n\n")
	texts := helpTexts(help)
	var b strings.Builder
	fmt.Fprintf(&b, `%s
.Dt IPVSADM 8
.Os
.Sh NAME
.Nm ipvsadm
.Nd virtual services of the director uvs
.Sh SYNOPSIS
.Bd -literal
%s
.Ed
.Sh DESCRIPTION
Adds, edits, deletes and lists virtual services and their servers, with the arguments,
listings, messages and exit statuses of ipvsadm 1.31.
The command comes first; letters can be bundled (-Ln).
It talks to the director of
.Xr uvs 8 ,
on the socket
.Ev UVS_SOCKET ,
for which it waits as long as
.Ev UVS_WAIT
says.
.Nm ipvsadm-save
is
.Nm
.Fl S ,
.Nm ipvsadm-restore
is
.Nm
.Fl C
and
.Fl R
at once.
.Pp
An IPv6 address with a port is written [ADDRESS]:PORT.
Port 0, or none, means all ports and needs
.Fl p .
`, date, usage)
	b.WriteString(".Sh COMMANDS\n.Bl -tag -width indent\n")
	section := cmdAddService
	for i := range spellings {
		s := &spellings[i]
		if s.command == cmdNone && section != cmdNone {
			section = cmdNone
			b.WriteString(".El\n.Sh OPTIONS\n.Bl -tag -width indent\n")
		}
		s.describe(&b, texts[s.long])
	}
	b.WriteString(`.El
.Sh EXIT STATUS
0 done, 1 no such service to list, 2 a wrong option or value or no director, 255 refused by the
director or an unknown option.
.Sh SEE ALSO
.Xr uvs 8
.Pp
docs/ipvs.md of the source has the rules of IPVS, and where uvs differs.
`)
	return b.String()
}

// helpEntry is what -h says of a spelling.
type helpEntry struct{ value, text string }

var helpLine = regexp.MustCompile(
	`(?m)^  --([a-z0-9-]+) +((?:-\S, )?-\S )? *([A-Z[][A-Z:[\]]*)?(?: +|$)(.*(?:\n {24,}\S.*)*)`)

// helpTexts returns the entries of -h by the long names of spellings.
func helpTexts(help string) map[string]helpEntry {
	texts := map[string]helpEntry{}
	for _, m := range helpLine.FindAllStringSubmatch(help, -1) {
		texts[m[1]] = helpEntry{m[3], strings.Join(strings.Fields(m[4]), " ")}
	}
	_, unused, _ := strings.Cut(help, "\nRead, but without use: ")
	for word := range strings.FieldsSeq(unused) {
		texts[strings.TrimPrefix(word, "--")] = helpEntry{"VALUE", "read, but without use"}
	}
	return texts
}

// describe writes the item of a spelling.
func (s *spelling) describe(b *strings.Builder, help helpEntry) {
	word, text := "Fl -"+s.long, help.text
	if s.short != 0 {
		word = fmt.Sprintf("Fl %c , %s", s.short, word)
	}
	switch s.takes {
	case takesOptional:
		word += " Op Ar " + strings.Trim(help.value, "[]")
	case takesValue:
		word += " Ar " + cmp.Or(help.value, "VALUE")
	case takesNothing:
		text = strings.TrimSpace(help.value + " " + text)
	}
	if s.option == optService || s.option == optServer {
		text = cmp.Or(text, "the "+s.option.String())
	}
	fmt.Fprintf(b, ".It %s\n%s.\n", word, cmp.Or(text, "see above"))
	if s.command == cmdNone {
		return
	}
	r := commands[s.command].rule
	for _, list := range []struct {
		text    string
		options optionSet
	}{{"Needs", r.must}, {"Takes", r.may}, {"One of", r.oneOf}} {
		var names []string
		for rest := list.options; rest != 0; rest &= rest - 1 {
			names = append(names, option(bits.TrailingZeros64(uint64(rest))).String())
		}
		if len(names) > 0 {
			fmt.Fprintf(b, "%s: %s.\n", list.text, strings.Join(names, ", "))
		}
	}
}
