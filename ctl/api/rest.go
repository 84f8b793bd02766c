package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl/config"
)

// Problem is why a request was refused (RFC 9457).
type Problem struct {
	Title  string `json:"title"`  // of the status
	Status int    `json:"status"` // of HTTP
	Detail string `json:"detail"`
	// Errno is what the kernel would return: 2 ENOENT, 17 EEXIST, 22 EINVAL …
	Errno  syscall.Errno  `json:"errno"`
	Errors []ProblemValue `json:"errors,omitempty"` // the values that are wrong
}

// ProblemValue is a value that is wrong in a request.
type ProblemValue struct {
	// Location is a pointer into the body (RFC 6901), as /servers/0/weight, or the name of a
	// parameter, as query.limit.
	Location string `json:"location"`
	Message  string `json:"message"`
	Value    any    `json:"value,omitempty"`
}

// Error returns Detail.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns Status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns that of a problem.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// Refusal returns the problem as an error of an operation.
func (p *Problem) Refusal() *config.Error {
	e := &config.Error{Errno: p.Errno, Message: p.Detail}
	if len(p.Errors) > 0 && strings.HasPrefix(p.Errors[0].Location, "/") {
		e.Pointer = jsontext.Pointer(p.Errors[0].Location)
	}
	return e
}

// statuses are the HTTP statuses of errors; of the others it is 422.
var statuses = map[syscall.Errno]int{
	syscall.ENOENT: http.StatusNotFound, syscall.ESRCH: http.StatusNotFound,
	syscall.EEXIST: http.StatusConflict, syscall.EBUSY: http.StatusConflict,
	syscall.ESTALE: http.StatusPreconditionFailed, syscall.EPERM: http.StatusForbidden,
	syscall.ENOSPC: http.StatusInsufficientStorage, syscall.EIO: http.StatusInternalServerError,
	syscall.EOVERFLOW: http.StatusGone, syscall.ETIMEDOUT: http.StatusGatewayTimeout,
	syscall.EBADMSG: http.StatusBadRequest, syscall.EMSGSIZE: http.StatusRequestEntityTooLarge,
	syscall.ENOSYS: http.StatusMethodNotAllowed,
}

// ProblemOf returns the problem that an error of an operation is. A value of the request that
// is wrong is no resource that is missing, whatever its errno.
func ProblemOf(e *config.Error) *Problem {
	status, ok := statuses[e.Errno]
	if !ok || e.Pointer != "" && status == http.StatusNotFound {
		status = http.StatusUnprocessableEntity
	}
	p := &Problem{Title: http.StatusText(status), Status: status, Detail: e.Message, Errno: e.Errno}
	if e.Pointer != "" {
		p.Errors = []ProblemValue{{Location: string(e.Pointer), Message: e.Message}}
	}
	return p
}

// Transaction is operations that come into force together.
type Transaction struct {
	Operations []config.Op `json:"operations"`
	// Whole: if one is refused, so are all; true if not given. Otherwise the others are made.
	Whole bool `json:"whole"`
	// IfRevision is the revision that the configuration must still have.
	IfRevision *uint64 `json:"if_revision,omitzero"`
}

// TransactionResult is what became of a Transaction.
type TransactionResult struct {
	Revision uint64 `json:"revision"` // of the configuration now
	// Results has null for each operation that was made, and for others why not.
	Results []*config.Error `json:"results"`
}

// Applied is a configuration that came into force.
type Applied struct {
	Revision uint64 `json:"revision"`
}

// Reloaded is a configuration file that was applied again.
type Reloaded struct {
	Revision uint64 `json:"revision"`
	// NextStart are options of the file that only take effect when the director starts again.
	NextStart []string `json:"next_start,omitempty"`
}

// Role is "active", or "standby" while another director serves the VIPs.
type Role struct {
	Role string `json:"role"`
}

// Log is what the director logs, and how.
type Log struct {
	Level  config.LogLevel  `json:"level,omitzero"`  // trace, debug, info, warn or error
	Format config.LogFormat `json:"format,omitzero"` // text, json or syslog
}

// Health is that the director works.
type Health struct {
	Status string `json:"status"` // "ok"
}

// Flushed is how many connections were ended.
type Flushed struct {
	Count int `json:"count"`
}

// AdminState is what the operator decides about servers.
type AdminState struct {
	Admin config.Admin `json:"admin"`
}

// ServiceFilter selects services that match all fields that are given; the zero value selects
// all.
type ServiceFilter struct {
	Proto  config.Proto
	Addr   netip.Addr
	FWMark uint32
	Name   string             // how the service's name begins
	Limit  int                // at most so many; 0: all
	After  *config.ServiceKey // only what comes after this one in the list
	Brief  bool               // servers without their counters, next hop and path
}

// Matches reports whether a service matches the filter.
func (f *ServiceFilter) Matches(key config.ServiceKey) bool {
	return (f.Proto == 0 || f.Proto == key.Proto) && (!f.Addr.IsValid() || f.Addr == key.Addr) &&
		(f.FWMark == 0 || f.FWMark == key.FWMark) && (f.Name == "" || strings.HasPrefix(key.Text(), f.Name))
}

// Query returns the filter in a request.
func (f ServiceFilter) Query() url.Values {
	q := url.Values{}
	for name, value := range map[string]any{
		"protocol": f.Proto.Word(), "address": f.Addr, "mark": f.FWMark, "name": f.Name, "limit": f.Limit,
	} {
		if text := fmt.Sprint(value); text != "" && text != "0" && text != "ip" && text != "invalid IP" {
			q.Set(name, text)
		}
	}
	if f.After != nil {
		q.Set("cursor", f.After.Text())
	}
	if f.Brief {
		q.Set("brief", "true")
	}
	return q
}

// ApplyOptions is how a whole configuration is applied.
type ApplyOptions struct {
	How     string         // as `uvs history` shows it: "apply uvs.yaml"
	File    string         // a digest of the file the configuration is from
	Confirm config.Seconds // the change takes itself back after this time, unless it is confirmed; 0: never
	// IfRevision is the revision that the configuration must still have.
	IfRevision *uint64
	// Wait is how long to wait until all servers of the services that changed can be reached.
	Wait config.Seconds
}

func (o ApplyOptions) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"how": o.How, "file": o.File, "confirm": o.Confirm.String(), "wait": o.Wait.String(),
	} {
		if value != "" && value != "0s" {
			q.Set(name, value)
		}
	}
	return q
}

// ETag returns a revision as HTTP writes it.
func ETag(revision uint64) string { return strconv.Quote(strconv.FormatUint(revision, 10)) }
