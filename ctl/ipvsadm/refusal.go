package ipvsadm

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"uvs/ctl/config"
)

// refusal is the error of a command: the text to print and the exit code. ends: it ends a
// restore; otherwise the restore goes on with the next line.
type refusal struct {
	text string
	exit int
	ends bool
}

func (r *refusal) Error() string { return r.text }

// Exit codes.
const (
	exitOK      = 0
	exitMissing = 1   // no such service to list
	exitUsage   = 2   // wrong option or value; no director
	exitRefused = 255 // refused by the director, or an unknown option
)

// refuse makes the refusal of an option's use or value.
func refuse(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), exitUsage, true}
}

// refuseWord makes the refusal of a word that is not an option.
func refuseWord(format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), exitRefused, false}
}

// errHint is the error for a command line that does not start with a command.
var errHint = &refusal{"Try `ipvsadm -h' or 'ipvsadm --help' for more information.", exitRefused, true}

// getService stands for listing a service in refusalTexts.
const getService config.OpKind = "get-service"

// refusalTexts are ipvsadm's messages for the errors of operations. EOPNOTSUPP has none:
// ipvsadm says that the kernel lacks IPv6, but a director means another operation.
var refusalTexts = []struct {
	verbs []config.OpKind // nil: any
	errno syscall.Errno
	text  string
}{
	{[]config.OpKind{config.AddService}, syscall.EEXIST, "Service already exists"},
	{
		[]config.OpKind{config.AddService, config.EditService},
		syscall.ENOENT, "Scheduler or persistence engine not found",
	},
	{
		[]config.OpKind{config.EditService, config.DeleteService, config.Zero, getService},
		syscall.ESRCH, "No such service",
	},
	{[]config.OpKind{config.AddServer, config.EditServer, config.DeleteServer}, syscall.ESRCH, "Service not defined"},
	{[]config.OpKind{config.AddServer}, syscall.EEXIST, "Destination already exists"},
	{[]config.OpKind{config.EditServer, config.DeleteServer}, syscall.ENOENT, "No such destination"},
	{nil, syscall.EPERM, "Permission denied (you must be root)"},
	{nil, syscall.EINVAL, "Invalid operation.  Possibly wrong module version, address not unicast, ..."},
	{nil, syscall.ENOPROTOOPT, "Protocol not available"},
	{nil, syscall.ENOMEM, "Memory allocation problem"},
	{nil, syscall.EAFNOSUPPORT, "Operation not supported with specified address family"},
	{nil, syscall.EMSGSIZE, "Module is wrong version"},
	{nil, syscall.ERANGE, "Numerical result out of range"},
	{nil, syscall.ENODEV, "No such device"},
}

// refusalText is ipvsadm's message for the error of an operation or, if there is none, the
// director's.
func refusalText(verb config.OpKind, err error) string {
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
