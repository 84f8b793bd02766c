package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/file"
)

// formats are the values of -o.
var formats = []string{"table", "wide", "json", "yaml", "tsv"}

// listing is what a verb lists.
type listing struct {
	columns string // names of the cells of a row; a name after + is only in wide
	// headless: without -o the table has no header, as in earlier versions. plain, if it is
	// there, writes the values without -o.
	headless bool
	plain    func(value any) string
	single   bool // one value, not a list; its rows are its parts
	// list calls add for every row, with the value that JSON and YAML have in its place, if any.
	list func(words []string, add addRow) error
}

// addRow adds a row to a listing. value is nil if it belongs to the value before.
type addRow func(value any, cells ...any) error

// of makes a command print the listing, in the form that its options ask for.
func (l listing) of(cmd *cobra.Command) *cobra.Command {
	format := cmd.Flags().StringP("output", "o", "", "`FORMAT`: "+config.OneOf(formats))
	asJSON := cmd.Flags().Bool("json", false, "as -o json")
	every := cmd.Flags().Duration("watch", 0, "list again and again, every `TIME`")
	cmd.Flags().Lookup("watch").NoOptDefVal = "2s"
	cmd.RunE = func(cmd *cobra.Command, words []string) error {
		switch {
		case *asJSON && *format != "" && *format != "json":
			return misused("--json and -o %s exclude each other", *format)
		case *asJSON:
			*format = "json"
		case *format != "" && !slices.Contains(formats, *format):
			return misused("format %q is not %s", *format, config.OneOf(formats))
		case cmd.Flag("watch").Changed && *every <= 0:
			return misused("--watch %v: want a time such as 2s", *every)
		}
		terminal := isTerminal(os.Stdout)
		for {
			p := l.printer(*format, os.Stdout)
			p.colours = terminal && os.Getenv("NO_COLOR") == ""
			if *every > 0 && terminal {
				fmt.Fprint(p.out, clearScreen)
			}
			if err := p.print(words); err != nil || *every == 0 {
				return err
			}
			time.Sleep(*every)
		}
	}
	return cmd
}

// printer prints the rows of a listing.
type printer struct {
	listing
	format  string
	out     *bufio.Writer
	colours bool
	rows    [][]string // of a table, that wait until widths are known
	widths  []int
	shown   []int // the columns to show
	values  int
	text    []byte // the JSON of a value
}

func (l listing) printer(format string, out io.Writer) *printer {
	p := &printer{listing: l, format: format, out: bufio.NewWriterSize(out, 1<<16)}
	var header []string
	for i, name := range strings.Fields(l.columns) {
		if name[0] == '+' && format != "wide" && format != "tsv" {
			continue
		}
		p.shown = append(p.shown, i)
		header = append(header, strings.TrimPrefix(name, "+"))
	}
	if !l.headless || format != "" {
		p.rows = append(p.rows, header)
	}
	return p
}

// print prints the whole listing. If that fails, it does not print what it has not yet.
func (p *printer) print(words []string) error {
	if err := p.list(words, p.add); err != nil {
		return err
	}
	switch {
	case p.format == "json" && p.values == 0:
		p.out.WriteString("[]\n")
	case p.format == "json" && !p.single:
		p.out.WriteString("\n]\n")
	case p.format == "json":
		p.out.WriteString("\n")
	case p.format == "yaml" && p.values == 0:
		p.out.WriteString("[]\n")
	case p.format == "" && p.plain != nil, p.format == "yaml", p.format == "tsv":
	default:
		p.writeRows()
	}
	return p.out.Flush()
}

// add prints a row, or keeps it until there are enough to align.
func (p *printer) add(value any, cells ...any) error {
	switch {
	case p.format == "json" || p.format == "yaml":
		if value == nil {
			return nil
		}
		return p.writeValue(value)
	case p.format == "" && p.plain != nil:
		_, err := fmt.Fprintln(p.out, p.plain(value))
		return err
	}
	row := make([]string, 0, len(p.shown))
	for _, c := range p.shown {
		if c < len(cells) {
			row = append(row, cellText(cells[c]))
		}
	}
	if p.format == "tsv" {
		_, err := fmt.Fprintln(p.out, strings.Join(row, "\t"))
		return err
	}
	if p.rows = append(p.rows, row); len(p.rows) == 4096 {
		p.writeRows()
	}
	return nil
}

// writeValue writes a value, as an element of a list unless it is single.
func (p *printer) writeValue(value any) error {
	p.values++
	if p.format == "yaml" {
		p.text = api.AppendJSON(p.text[:0], value, -1)
		begin := "- "
		if p.single {
			begin = ""
		}
		text, err := file.YAML(p.text, begin)
		p.out.Write(text)
		return err
	}
	indent := 2
	switch {
	case p.single:
		indent = 0
	case p.values == 1:
		p.out.WriteString("[\n  ")
	default:
		p.out.WriteString(",\n  ")
	}
	p.text = api.AppendJSON(p.text[:0], value, indent)
	_, err := p.out.Write(p.text)
	return err
}

// writeRows writes the rows with columns as wide as their widest cell.
func (p *printer) writeRows() {
	for _, row := range p.rows {
		for i, cell := range row {
			if i == len(p.widths) {
				p.widths = append(p.widths, 0)
			}
			p.widths[i] = max(p.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range p.rows {
		for i, cell := range row {
			p.writeCell(cell)
			if i < len(row)-1 {
				pad(p.out, p.widths[i]-utf8.RuneCountInString(cell)+2)
			}
		}
		p.out.WriteByte('\n')
	}
	p.rows = p.rows[:0]
}

// pad writes n blanks.
func pad(out *bufio.Writer, n int) {
	for range n {
		out.WriteByte(' ')
	}
}

// clearScreen clears a terminal and its history, and puts the cursor to its top.
const clearScreen = "\033[H\033[2J\033[3J"

// colours are those of states, as numbers of ECMA-48's SGR.
var colours = map[string]int{
	"up": 32, "active": 32, "drain": 33, "quiesced": 33, "overloaded": 33, "standby": 33, "sorry": 36,
	"down": 31, "unreachable": 31, "empty": 31,
}

func (p *printer) writeCell(cell string) {
	if colour := colours[cell]; p.colours && colour != 0 {
		fmt.Fprintf(p.out, "\033[%dm%s\033[0m", colour, cell)
		return
	}
	p.out.WriteString(cell)
}

// cellText returns the text of a cell, which is never empty, so that rows have as many words
// as columns.
func cellText(v any) (text string) {
	switch v := v.(type) {
	case string:
		text = v
	case fmt.Stringer:
		text = v.String()
	case uint32:
		text = strconv.FormatUint(uint64(v), 10)
	case int32:
		text = strconv.Itoa(int(v))
	default:
		text = fmt.Sprint(v)
	}
	if text == "" {
		return "-"
	}
	return text
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}
