package file

import (
	"bytes"
	"slices"
	"strings"

	"uvs/ctl/config"
)

// Command returns the operation of a line's words, such as ipvsadm -A -t 192.0.2.1:80.
type Command func(words []string) (config.Op, error)

// commandWords are the first words of the lines that `uvs save --commands` prints.
var commandWords = []string{"ipvsadm", "set", "mark", "sorry", "down", "drain"}

// words returns the words of a line; none: it is empty or a comment.
func words(line []byte) []string {
	list := strings.Fields(string(line))
	if len(list) == 0 || list[0][0] == '#' {
		return nil
	}
	if list[0][0] == '-' {
		list = append([]string{"ipvsadm"}, list...) // as ipvsadm -S prints it
	}
	return list
}

// isCommands reports whether a text is lines of commands, not YAML: its first begins with an
// option or the word of a command.
func isCommands(text []byte) bool {
	for line := range bytes.Lines(text) {
		list := words(line)
		if len(list) == 0 {
			continue
		}
		if option := list[min(1, len(list)-1)]; bytes.TrimSpace(line)[0] == '-' {
			name := strings.TrimLeft(option, "-")
			return name != "" && len(option)-len(name) <= 2 && (name[0]|0x20) >= 'a' && (name[0]|0x20) <= 'z'
		}
		return slices.Contains(commandWords, list[0])
	}
	return false
}

// parseCommands returns the configuration that a file of commands makes.
func (r *reader) parseCommands(in *source) (*node, error) {
	state := (&config.State{}).Clone()
	at := map[string]place{} // of services, and of servers in them
	here := place{in: in, column: 1}
	for text := range bytes.Lines(in.text) {
		here.line++
		list := words(text)
		if list == nil {
			continue
		}
		op, err := r.command(list)
		if err == nil {
			err = state.Apply(op)
		}
		if err != nil {
			return nil, here.errorf("%v", err)
		}
		switch {
		case op.Service != nil && op.Server != nil:
			at[op.Service.Text()+" "+op.Server.ServerKey.String()] = here
		case op.Service != nil && op.Kind == config.AddService:
			at[op.Service.Text()] = here
		}
	}
	return documentNode(state.Document(), in, at)
}

// documentNode returns the value of a document. Its services and servers stand where a map
// says, the rest in the first line.
func documentNode(d *config.Document, in *source, at map[string]place) (*node, error) {
	root, err := toNode(d)
	if err != nil {
		return nil, err
	}
	root.put(in.at(0))
	for i := range d.Services {
		s := &d.Services[i]
		n := root.list("services")[i]
		n.put(at[s.Text()])
		for j := range s.Servers {
			n.list("servers")[j].put(at[s.Text()+" "+s.Servers[j].ServerKey.String()])
		}
	}
	return root, nil
}

// put puts a value and all that is in it to a place.
func (n *node) put(p place) {
	n.place = p
	for i := range n.members {
		n.members[i].place = p
		n.members[i].value.put(p)
	}
	for _, item := range n.items {
		item.put(p)
	}
}
