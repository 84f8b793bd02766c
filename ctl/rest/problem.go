package rest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// errnos of what HTTP itself refuses.
const (
	errNoRoute  = syscall.ENOENT
	errNoMethod = syscall.ENOSYS
	errSyntax   = syscall.EBADMSG
)

// problemOf returns the problem of an error. A fault of the director is EIO.
func problemOf(err error) *api.Problem {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p
	}
	e, ok := errors.AsType[*config.Error](err)
	if !ok {
		e = &config.Error{Errno: syscall.EIO, Message: err.Error()}
	}
	return api.ProblemOf(e)
}

func writeProblem(w http.ResponseWriter, p *api.Problem) {
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // fails only if the client went away
}

func init() {
	huma.NewError = refusal
	huma.DefaultArrayNullable = false
}

// refusal returns the problem of a request that huma refuses.
func refusal(status int, message string, errs ...error) huma.StatusError {
	p := &api.Problem{Title: http.StatusText(status), Status: status, Detail: message, Errno: syscall.EINVAL}
	switch status {
	case http.StatusRequestEntityTooLarge:
		p.Errno, p.Detail = syscall.EMSGSIZE, fmt.Sprintf("the request has more than %d bytes", maxBody)
	case http.StatusRequestTimeout:
		p.Errno, p.Detail = syscall.ETIMEDOUT, fmt.Sprintf("the request did not come whole within %v", readTimeout)
	case http.StatusBadRequest:
		p.Errno = errSyntax
	}
	for _, err := range errs {
		if problem, ok := err.(*api.Problem); ok {
			return problem
		}
		value := api.ProblemValue{Message: err.Error()}
		if d, ok := err.(huma.ErrorDetailer); ok {
			detail := d.ErrorDetail()
			value = api.ProblemValue{Location: detail.Location, Value: detail.Value, Message: detail.Message}
		}
		value.Message = strings.TrimPrefix(value.Message, "invalid value: ")
		if p.Errors = append(p.Errors, value); len(p.Errors) == 1 {
			p.Detail = strings.TrimPrefix(value.Location+": "+value.Message, ": ")
		}
	}
	return p
}
