package ipvsadm

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"uvs/ctl/config"
)

// refusal is why a command was not done: what to print, and the exit code.
// Some refusals end a restore at the line they came from; after the others it
// goes on.
type refusal struct {
	text string
	exit int
	ends bool
}

func (r *refusal) Error() string { return r.text }

// Exit codes.
const (
	exitOK      = 0
	exitMissing = 1   // listing of a service that is not there
	exitUsage   = 2   // wrong option or value; no director
	exitRefused = 255 // refused by the director, or not even an option
)

// refuse makes the refusal of an option, argument or value.
func refuse(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), exitUsage, true}
}

// misread makes the refusal of a word that is no option of ours.
func misread(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), exitRefused, false}
}

// errNoService answers for a service that is not in the list.
var errNoService = &config.Error{Errno: syscall.ESRCH, Message: "no such service"}

// errHint answers a command line that does not begin with a command.
var errHint = &refusal{"Try `ipvsadm -h' or 'ipvsadm --help' for more information.", exitRefused, true}

// getService is what listing a service is called in refusalTexts.
const getService config.Verb = "get-service"

// refusalTexts are ipvsadm's words for what the kernel, and so the director,
// answers to each operation. EOPNOTSUPP is not among them: ipvsadm takes it for
// a kernel without IPv6, a director says it of what it cannot do yet.
var refusalTexts = []struct {
	verbs []config.Verb // nil: any
	errno syscall.Errno
	text  string
}{
	{[]config.Verb{config.AddService}, syscall.EEXIST, "Service already exists"},
	{[]config.Verb{config.AddService, config.EditService}, syscall.ENOENT, "Scheduler or persistence engine not found"},
	{[]config.Verb{config.EditService, config.DeleteService, config.Zero, getService}, syscall.ESRCH, "No such service"},
	{[]config.Verb{config.AddServer, config.EditServer, config.DeleteServer}, syscall.ESRCH, "Service not defined"},
	{[]config.Verb{config.AddServer}, syscall.EEXIST, "Destination already exists"},
	{[]config.Verb{config.EditServer, config.DeleteServer}, syscall.ENOENT, "No such destination"},
	{nil, syscall.EPERM, "Permission denied (you must be root)"},
	{nil, syscall.EINVAL, "Invalid operation.  Possibly wrong module version, address not unicast, ..."},
	{nil, syscall.ENOPROTOOPT, "Protocol not available"},
	{nil, syscall.ENOMEM, "Memory allocation problem"},
	{nil, syscall.EAFNOSUPPORT, "Operation not supported with specified address family"},
	{nil, syscall.EMSGSIZE, "Module is wrong version"},
	{nil, syscall.ERANGE, "Numerical result out of range"},
	{nil, syscall.ENODEV, "No such device"},
}

// refusalText says in ipvsadm's words why verb was refused, or in the
// director's where ipvsadm has none.
func refusalText(verb config.Verb, err error) string {
	var refused *config.Error
	if !errors.As(err, &refused) {
		return err.Error()
	}
	for _, t := range refusalTexts {
		if t.errno == refused.Errno && (t.verbs == nil || slices.Contains(t.verbs, verb)) {
			return t.text
		}
	}
	return refused.Message
}
