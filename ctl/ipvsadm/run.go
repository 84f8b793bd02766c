package ipvsadm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/dataplane/wire"
)

// Director is the director that the command controls. Operations that it refuses return a
// *config.Error.
type Director interface {
	Info() (api.Info, error)
	Apply(op config.Op) error
	// ApplyAll makes up to api.MaxOps changes, puts them in force at once, and returns the
	// error of each.
	ApplyAll(ops []config.Op) []error
	// Services are in order of adding, with the newest server first.
	ServicesOf(api.ServiceFilter) ([]api.ServiceStatus, error)
	// Service is one service; without one the error is ESRCH.
	Service(config.ServiceKey) (api.ServiceStatus, error)
	Timeouts() (config.Timeouts, error)
	// Conns calls visit for each conn until visit returns an error.
	Conns(visit func(api.ConnStatus) error) error
}

// Stdio is the standard input and output of a command.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs `ipvsadm args...` and returns its exit code. It calls connect once, when it
// needs the director.
func Main(args []string, std Stdio, connect func() (Director, error)) (exit int) {
	return newTool(std, connect).main(args)
}

// SaveMain runs ipvsadm-save: it prints the commands that restore the table, with -n in
// numbers.
func SaveMain(args []string, std Stdio, connect func() (Director, error)) (exit int) {
	words := []string{"-S"}
	for _, arg := range args {
		if arg != "-n" {
			fmt.Fprintf(std.Err, "ipvsadm-save: unknown argument %s; the only argument is -n\n", arg)
			return exitMissing
		}
		words = []string{"-S", "-n"}
	}
	return Main(words, std, connect)
}

// RestoreMain runs ipvsadm-restore: it clears the table and then runs the lines of std.In,
// except those that start with "#". It reads all lines first, so that a pipe from
// ipvsadm-save works. What stays the same is never absent.
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

// tool runs one command.
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

// main runs one command line and returns the exit code.
func (t *tool) main(words []string) int {
	request, err := parse(words, t.names)
	if err == nil {
		err = t.run(&request)
	}
	return t.report(err)
}

// report flushes the output, prints the message of err, and returns the exit code.
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

// run executes a request.
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
		return refusedBy(op.Kind, err)
	}
	t.warn(op)
	return nil
}

// warn warns on stderr of a changed service of FTP that will not work. The exit code stays
// 0, because the command succeeded.
func (t *tool) warn(op config.Op) {
	changed := op.Kind == config.AddServer || op.Kind == config.EditServer || op.Kind == config.EditService
	if !changed || op.Service.Port != wire.PortFTP {
		return
	}
	status, err := t.director.Service(op.Service.ServiceKey)
	if err != nil {
		return
	}
	svc := status.Service
	for _, v := range status.ServerStatuses {
		svc.Servers = append(svc.Servers, v.Server)
	}
	if text := svc.FTPWarning(); text != "" {
		fmt.Fprintln(t.std.Err, "warning: "+text)
	}
}

// refusedBy returns the refusal for the director's error.
func refusedBy(verb config.OpKind, err error) error {
	if err == nil {
		return nil
	}
	return &refusal{text: refusalText(verb, err), exit: exitRefused}
}

// open connects to the director if it is not connected.
func (t *tool) open() (err error) {
	if t.director != nil {
		return nil
	}
	switch t.director, err = t.connect(); {
	case errors.Is(err, fs.ErrPermission):
		return refuse("Can't initialize ipvs: %v", err)
	case err != nil:
		return refuse("Can't initialize ipvs: %v\nNo director answers here; start one with `uvs run'.", err)
	}
	return nil
}

// verbs are the operations of commands that change something.
var verbs = [...]config.OpKind{
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

// changes reports whether the command changes something.
func (r *request) changes() bool { return int(r.command) < len(verbs) && verbs[r.command] != "" }

// Operation parses the words after "ipvsadm" of a command that changes something. It looks
// up names of hosts and services.
func Operation(words []string) (config.Op, error) {
	r, err := parse(words, &systemNames{})
	if err == nil && !r.changes() {
		err = refuse("this command changes nothing; a saved line must change something")
	}
	if err != nil {
		return config.Op{}, err
	}
	return r.operation(), nil
}

// operation returns the operation of a command that changes something.
func (r *request) operation() config.Op {
	op := config.Op{Kind: verbs[r.command]}
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

// maxLine is the longest line of a restore, and the size of its read buffer.
const maxLine = 1 << 20

// restore runs the commands in std.In, one a line, and has the exit code of the last one. A
// wrong command ends it; a refused one does not. It applies the changes that have been
// read so far together, which is fast and puts them in force at once.
func (t *tool) restore() error {
	last := &refusal{}
	var ops []config.Op
	apply := func() {
		if len(ops) == 0 {
			return
		}
		for i, err := range t.director.ApplyAll(ops) {
			last = &refusal{exit: t.report(refusedBy(ops[i].Kind, err))}
		}
		ops = nil
	}
	lines := bufio.NewReaderSize(t.std.In, maxLine)
	for eof := false; !eof && !last.ends; {
		line, err := lines.ReadSlice('\n')
		if eof = err == io.EOF; err != nil && !eof {
			apply()
			return refuse("read rules: %v", err)
		}
		if words := restoreWords(string(line)); len(words) > 0 {
			request, err := parse(words, t.names)
			if err == nil && request.changes() {
				ops = append(ops, request.operation())
			} else {
				apply()
				last = t.restoreOther(&request, err)
			}
		}
		if eof || lines.Buffered() == 0 || len(ops) == api.MaxOps {
			apply()
		}
	}
	if last.exit == exitOK {
		return nil
	}
	return last
}

// restoreOther runs a line of a restore that changes nothing; err is the error of parsing it.
func (t *tool) restoreOther(r *request, err error) *refusal {
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
