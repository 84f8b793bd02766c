package config

import (
	"fmt"
	"syscall"
)

// Verb names an operation; the words are those of ipvsadm's messages.
type Verb string

const (
	AddService    Verb = "add-service"
	EditService   Verb = "edit-service"
	DeleteService Verb = "delete-service"
	Flush         Verb = "flush"
	AddServer     Verb = "add-server"
	EditServer    Verb = "edit-server"
	DeleteServer  Verb = "delete-server"
	SetTimeouts   Verb = "set"
	Zero          Verb = "zero"
	SetSettings   Verb = "set-settings"
	SetSorry      Verb = "sorry"
	SetServerDown Verb = "set-server-down"
	AddMarks      Verb = "add-marks"
	DeleteMarks   Verb = "delete-marks"
)

// Op is one change the operator asks for. Which fields count depends on Verb:
// AddService, EditService take Service (its Servers are ignored);
// DeleteService takes Service.ServiceKey; Zero takes it or, when Service is
// nil, means everything; the server verbs take Service.ServiceKey and Server;
// SetTimeouts takes Timeouts, where 0 keeps a value; Tune takes Tuning, of
// Service's own if that is given; SetSorry makes Server the sorry server of
// Service.ServiceKey or, if it is nil, takes that away; SetServerDown makes the
// server of Server.ServerKey down or up, as Server.Down says, and nothing else;
// AddMarks and DeleteMarks take Marks, all or none of them.
type Op struct {
	Verb     Verb      `json:"verb"`
	Service  *Service  `json:"service,omitempty"`
	Server   *Server   `json:"server,omitempty"`
	Timeouts *Timeouts `json:"timeouts,omitempty"`
	Settings Values    `json:"settings,omitempty"`

	Marks []MarkRule `json:"marks,omitempty"`
}

// Error is why an operation was refused; nothing was changed. Errno is what
// the kernel's IPVS would answer (ESRCH: no such service, EEXIST, ENOENT …),
// so that ipvsadm can print its own words; Message is one line for people
// naming the value.
type Error struct {
	Errno   syscall.Errno `json:"errno"`
	Message string        `json:"message"`
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Errno }

func Errorf(errno syscall.Errno, format string, args ...any) error {
	return &Error{Errno: errno, Message: fmt.Sprintf(format, args...)}
}
