package ipvsadm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
)

// Director is whom the command talks to. Operations it refuses come back as
// *config.Error.
type Director interface {
	Info() (api.Info, error)
	Apply(op config.Op) error
	// ApplyAll makes up to api.MaxOps changes, in force at once, and returns
	// each one's error.
	ApplyAll(ops []config.Op) []error
	// Services come in order of adding, their servers newest first.
	Services() ([]api.ServiceStatus, error)
	Timeouts() (config.Timeouts, error)
	// Conns calls visit for each conn until visit returns an error.
	Conns(visit func(api.ConnStatus) error) error
}

// Stdio is where a command reads and writes.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main does what `ipvsadm args...` does and returns its exit code. It calls
// connect once, when it has something to ask of the director.
func Main(args []string, std Stdio, connect func() (Director, error)) (exit int) {
	return newTool(std, connect).main(args)
}

// SaveMain is ipvsadm-save: it prints the table as commands that restore it,
// with -n in numbers.
func SaveMain(args []string, std Stdio, connect func() (Director, error)) (exit int) {
	words := []string{"-S"}
	for _, arg := range args {
		if arg != "-n" {
			fmt.Fprintf(std.Err, "ipvsadm-save: unknown argument %s; -n for numbers is all it takes\n", arg)
			return exitMissing
		}
		words = []string{"-S", "-n"}
	}
	return Main(words, std, connect)
}

// RestoreMain is ipvsadm-restore: it clears the table and then does what the
// lines of std.In say, but for those that begin with "#". All of them are read
// first, so that the table may be piped from ipvsadm-save to itself; and what
// stays the same is not missing for a moment.
func RestoreMain(args []string, std Stdio, connect func() (Director, error)) (exit int) {
	if len(args) > 0 {
		fmt.Fprintf(std.Err, "ipvsadm-restore: unexpected argument %s; rules are read from standard input\n", args[0])
		return exitUsage
	}
	input, err := io.ReadAll(std.In)
	if err != nil {
		fmt.Fprintf(std.Err, "ipvsadm-restore: read rules: %v\n", err)
		return exitUsage
	}
	var rules strings.Builder
	rules.WriteString("-C\n")
	for line := range strings.Lines(string(input)) {
		if line[0] != '#' {
			rules.WriteString(line)
		}
	}
	std.In = strings.NewReader(rules.String())
	return Main([]string{"-R"}, std, connect)
}

// tool is one run of the command.
type tool struct {
	std      Stdio
	out      *bufio.Writer // std.Out
	names    names
	connect  func() (Director, error)
	director Director // nil until connected
}

func newTool(std Stdio, connect func() (Director, error)) *tool {
	return &tool{std: std, out: bufio.NewWriter(std.Out), names: &systemNames{}, connect: connect}
}

// main does one command line and returns the exit code.
func (t *tool) main(words []string) int {
	request, err := parse(words, t.names)
	if err == nil {
		err = t.run(&request)
	}
	return t.report(err)
}

// report prints what is to be said about err, after all that was printed
// before it, and returns the exit code.
func (t *tool) report(err error) int {
	t.out.Flush()
	var r *refusal
	switch {
	case err == nil:
		return exitOK
	case !errors.As(err, &r):
		r = &refusal{text: err.Error(), exit: exitRefused}
	}
	if r.text != "" {
		fmt.Fprintln(t.std.Err, r.text)
	}
	return r.exit
}

// run does what r asks for.
func (t *tool) run(r *request) error {
	switch r.command {
	case cmdHelp:
		fmt.Fprintf(t.out, "%s"+helpText, versionLine(), tunnelHelp())
		return nil
	case cmdVersion:
		t.out.WriteString(versionLine())
		return nil
	}
	if err := t.open(); err != nil {
		return err
	}
	switch r.command {
	case cmdList:
		return t.list(r)
	case cmdSave:
		return t.save(r)
	case cmdRestore:
		return t.restore()
	case cmdStartDaemon, cmdStopDaemon:
		return &refusal{text: "Operation not supported: the director has no sync daemon", exit: exitRefused}
	}
	op := r.operation()
	if err := t.director.Apply(op); err != nil {
		return answered(op.Verb, err)
	}
	t.warn(op)
	return nil
}

// warn says on stderr what a service lacks that was just changed, if it looks
// like FTP's: the command has done what it was told, and exits with 0.
func (t *tool) warn(op config.Op) {
	if op.Verb != config.AddServer && op.Verb != config.EditServer && op.Verb != config.EditService || op.Service.Port != wire.PortFTP {
		return
	}
	list, _ := t.director.Services()
	for i := range list {
		svc := list[i].Service
		for _, v := range list[i].Reals {
			svc.Servers = append(svc.Servers, v.Server)
		}
		if text := svc.FTPWarning(); svc.ServiceKey == op.Service.ServiceKey && text != "" {
			fmt.Fprintln(t.std.Err, "warning: "+text)
		}
	}
}

// answered is what ipvsadm makes of the director's answer to an operation.
func answered(verb config.Verb, err error) error {
	if err == nil {
		return nil
	}
	return &refusal{text: refusalText(verb, err), exit: exitRefused}
}

// open connects to the director if that was not done yet.
func (t *tool) open() (err error) {
	if t.director != nil {
		return nil
	}
	if t.director, err = t.connect(); err != nil {
		return refuse("Can't initialize ipvs: %v\nNo director answers here; start one with `uvs run'.", err)
	}
	return nil
}

// verbs are the operations of the commands that change something.
var verbs = [...]config.Verb{
	cmdAddService:    config.AddService,
	cmdEditService:   config.EditService,
	cmdDeleteService: config.DeleteService,
	cmdFlush:         config.Flush,
	cmdAddServer:     config.AddServer,
	cmdEditServer:    config.EditServer,
	cmdDeleteServer:  config.DeleteServer,
	cmdSet:           config.SetTimeouts,
	cmdZero:          config.Zero,
}

// changes says whether the command changes something.
func (r *request) changes() bool { return int(r.command) < len(verbs) && verbs[r.command] != "" }

// Operation reads the words of a command that changes something, which come after
// "ipvsadm". Names of hosts and services are looked up.
func Operation(words []string) (config.Op, error) {
	r, err := parse(words, &systemNames{})
	if err == nil && !r.changes() {
		err = refuse("a command that changes nothing")
	}
	if err != nil {
		return config.Op{}, err
	}
	return r.operation(), nil
}

// operation makes the operation of a command that changes something.
func (r *request) operation() config.Op {
	op := config.Op{Verb: verbs[r.command]}
	switch r.command {
	case cmdAddService, cmdEditService:
		op.Service = &r.service
	case cmdSet:
		op.Timeouts = &r.timeouts
	case cmdAddServer, cmdEditServer:
		op.Server = &r.server
	case cmdDeleteServer:
		op.Server = &config.Server{ServerKey: r.server.ServerKey}
	}
	if op.Service == nil && r.given.has(optService) {
		op.Service = &config.Service{ServiceKey: r.service.ServiceKey}
	}
	return op
}

// lineRoom is the longest line of a restore, and how much is read ahead of it.
const lineRoom = 1 << 20

// restore does the commands in std.In, one a line, and ends as the last of
// them did. A wrong command ends it there and then; a refused one does not.
// Changes are made together, as many as there is input at hand for: that is
// fast, and in force at once.
func (t *tool) restore() error {
	last := &refusal{}
	var ops []config.Op
	change := func() {
		if len(ops) == 0 {
			return
		}
		for i, err := range t.director.ApplyAll(ops) {
			last = &refusal{exit: t.report(answered(ops[i].Verb, err))}
		}
		ops = nil
	}
	lines := bufio.NewReaderSize(t.std.In, lineRoom)
	for eof := false; !eof && !last.ends; {
		line, err := lines.ReadSlice('\n')
		if eof = err == io.EOF; err != nil && !eof {
			change()
			return refuse("read rules: %v", err)
		}
		if words := restoreWords(string(line)); len(words) > 0 {
			request, err := parse(words, t.names)
			if err == nil && request.changes() {
				ops = append(ops, request.operation())
			} else {
				change()
				last = t.other(&request, err)
			}
		}
		if eof || lines.Buffered() == 0 || len(ops) == api.MaxOps {
			change()
		}
	}
	if last.exit == exitOK {
		return nil
	}
	return last
}

// other does a line of a restore that changes nothing; err says that it could
// not be parsed.
func (t *tool) other(r *request, err error) *refusal {
	switch {
	case err != nil:
	case r.command == cmdRestore:
		err = errHint
	default:
		err = t.run(r)
	}
	return &refusal{exit: t.report(err), ends: endsRestore(err)}
}

// restoreWords splits a line on blanks and drops the name of the command.
func restoreWords(line string) []string {
	words := strings.Fields(line)
	kept := words[:0]
	for _, w := range words {
		if w != "ipvsadm" {
			kept = append(kept, w)
		}
	}
	return kept
}

func endsRestore(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.ends
}
