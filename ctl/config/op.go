package config

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/go-json-experiment/json/jsontext"
)

// OpKind names an operation.
type OpKind string

// The operations.
const (
	AddService    OpKind = "add-service"
	EditService   OpKind = "edit-service"
	PutService    OpKind = "put-service"
	DeleteService OpKind = "delete-service"
	Flush         OpKind = "flush"
	AddServer     OpKind = "add-server"
	EditServer    OpKind = "edit-server"
	PutServer     OpKind = "put-server"
	DeleteServer  OpKind = "delete-server"
	SetTimeouts   OpKind = "set"
	Zero          OpKind = "zero"
	SetSettings   OpKind = "set-settings"
	PutSettings   OpKind = "put-settings"
	SetSorry      OpKind = "sorry"
	SetAdmin      OpKind = "set-admin"
	PutAdmin      OpKind = "put-admin"
	AddMarks      OpKind = "add-marks"
	PutMarks      OpKind = "put-marks"
	DeleteMarks   OpKind = "delete-marks"
	Standby       OpKind = "standby"
	Active        OpKind = "active"
	Replace       OpKind = "replace"
)

// Op is an operation. Add refuses what exists, Edit what does not, and Put does both. Which
// fields an operation uses depends on Kind:
//
//	AddService, EditService               Service, without its Settings, Sorry and Servers
//	PutService                            Service, whole
//	DeleteService                         Service.ServiceKey
//	Zero                                  Service.ServiceKey; nil: all services
//	Add-, Edit-, PutServer, DeleteServer  Service.ServiceKey, Server
//	SetAdmin                              Admin
//	PutAdmin                              AdminRules, in place of all
//	SetSorry                              Service.ServiceKey, Server; nil: take the sorry server away
//	SetTimeouts                           Timeouts; 0 keeps a value
//	SetSettings                           Settings; of Service.ServiceKey if that is given
//	PutSettings                           as SetSettings; the others get their defaults
//	AddMarks, DeleteMarks                 Marks, all or none of them
//	PutMarks                              Marks, in place of all
//	Standby, Active                       nothing
//	Replace                               Document, in place of all
type Op struct {
	Kind     OpKind     `json:"verb"`
	Service  *Service   `json:"service,omitzero"`
	Server   *Server    `json:"server,omitzero"`
	Timeouts *Timeouts  `json:"timeouts,omitzero"`
	Settings Values     `json:"settings,omitempty"`
	Admin    *AdminRule `json:"admin,omitzero"`

	Marks []MarkRule `json:"marks,omitempty"`

	AdminRules []AdminRule `json:"admin_rules,omitempty"`
	Document   *Document   `json:"document,omitzero"`
}

// Error is why an operation was refused. Errno is what the kernel would return, and
// ipvsadm's messages follow it: ESRCH, for instance, means that there is no such service.
// Message is one line that names the value.
type Error struct {
	Errno   syscall.Errno `json:"errno"`
	Message string        `json:"message"`
	// Pointer leads to the value in the operation's service or document (RFC 6901).
	Pointer jsontext.Pointer `json:"pointer,omitzero"`
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Errno }

// Errorf makes an *Error.
func Errorf(errno syscall.Errno, format string, args ...any) error {
	return &Error{Errno: errno, Message: fmt.Sprintf(format, args...)}
}

// fieldErrorf makes an *Error about a member of an object.
func fieldErrorf(name string, errno syscall.Errno, format string, args ...any) error {
	return At(Errorf(errno, format, args...), name)
}

// At returns an *Error about a value with the path to it, of names and indexes, in front of
// its own.
func At(err error, path ...any) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	moved := *e
	moved.Pointer = ""
	for _, token := range path {
		moved.Pointer = moved.Pointer.AppendToken(fmt.Sprint(token))
	}
	moved.Pointer += e.Pointer
	return &moved
}
