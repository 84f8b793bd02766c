package config

import (
	"fmt"
	"syscall"
)

// OpKind names an operation.
type OpKind string

// The operations.
const (
	AddService    OpKind = "add-service"
	EditService   OpKind = "edit-service"
	DeleteService OpKind = "delete-service"
	Flush         OpKind = "flush"
	AddServer     OpKind = "add-server"
	EditServer    OpKind = "edit-server"
	DeleteServer  OpKind = "delete-server"
	SetTimeouts   OpKind = "set"
	Zero          OpKind = "zero"
	SetSettings   OpKind = "set-settings"
	SetSorry      OpKind = "sorry"
	SetAdmin      OpKind = "set-admin"
	AddMarks      OpKind = "add-marks"
	DeleteMarks   OpKind = "delete-marks"
	Standby       OpKind = "standby"
	Active        OpKind = "active"
)

// Op is an operation. Which fields it uses depends on Verb:
//
//	AddService, EditService              Service, without its Servers
//	DeleteService                        Service.ServiceKey
//	Zero                                 Service.ServiceKey; nil: all services
//	AddServer, EditServer, DeleteServer  Service.ServiceKey, Server
//	SetAdmin                             Admin
//	SetSorry                             Service.ServiceKey, Server; nil: take the sorry server away
//	SetTimeouts                          Timeouts; 0 keeps a value
//	SetSettings                          Settings; of Service.ServiceKey if that is given
//	AddMarks, DeleteMarks                Marks, all or none of them
//	Standby, Active                      nothing
type Op struct {
	Kind     OpKind     `json:"verb"`
	Service  *Service   `json:"service,omitempty"`
	Server   *Server    `json:"server,omitempty"`
	Timeouts *Timeouts  `json:"timeouts,omitempty"`
	Settings Values     `json:"settings,omitempty"`
	Admin    *AdminRule `json:"admin,omitempty"`

	Marks []MarkRule `json:"marks,omitempty"`
}

// Error is why an operation was refused. Errno is what the kernel would return, and
// ipvsadm's messages follow it: ESRCH, for instance, means that there is no such service.
// Message is one line that names the value.
type Error struct {
	Errno   syscall.Errno `json:"errno"`
	Message string        `json:"message"`
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Errno }

// Errorf makes an *Error.
func Errorf(errno syscall.Errno, format string, args ...any) error {
	return &Error{Errno: errno, Message: fmt.Sprintf(format, args...)}
}
