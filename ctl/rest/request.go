package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

// JSONBody is the input of a route with a body.
type JSONBody struct {
	RawBody []byte `contentType:"application/json"`
}

// decode decodes a body over v.
func (b *JSONBody) decode(v any) error { return decode(b.RawBody, v) }

func decode(text []byte, v any) error {
	if jsontext.Value(text).Kind() == 'n' { // or it would delete what it is to replace
		return config.Errorf(syscall.EINVAL, "null is no value; write {} or [] for what is empty")
	}
	err := config.Decode(text, v)
	d, ok := errors.AsType[*config.DecodeError](err)
	if !ok {
		return err
	}
	errno := syscall.EINVAL
	if !jsontext.Value(text).IsValid() {
		errno = errSyntax
	}
	return &config.Error{Errno: errno, Message: d.Error(), Pointer: d.Pointer}
}

// writeJSON also writes what is no UTF-8, such as a part of a request that an error quotes.
func writeJSON(w io.Writer, v any) error {
	return json.MarshalWrite(w, v, jsontext.AllowInvalidUTF8(true))
}

// inBody returns an error of an operation as one of the request's body, which is a part of the
// operation.
func inBody(err error, part jsontext.Pointer) error {
	e, ok := errors.AsType[*config.Error](err)
	if !ok || !strings.HasPrefix(string(e.Pointer), string(part)) {
		return err
	}
	moved := *e
	moved.Pointer = e.Pointer[len(part):]
	return &moved
}

// result is an output.
type result[T any] struct{ Body T }

func resultOf[T any](v T, err error) (*result[T], error) { return &result[T]{v}, err }

// tagged is an output with the revision of what it is about.
type tagged[T any] struct {
	Status int
	ETag   string `header:"ETag" doc:"revision of the object, for If-Match"`
	Body   T
}

func taggedOf[T any](v T, revision uint64, err error) (*tagged[T], error) {
	return &tagged[T]{Status: 200, ETag: api.ETag(revision), Body: v}, err
}

// seconds is a parameter such as 30s.
type seconds struct{ config.Seconds }

// Waiting is the input of a change that may wait for the servers' next hops.
type Waiting struct {
	Wait seconds `query:"wait" doc:"answer when all servers of the services that changed have a next hop; 504 after this time, such as 30s, though the change stays. Without it a change waits for no server."`
}

// Conditions are what a request says about the revision of what it changes.
type Conditions struct {
	IfMatch     string `header:"If-Match" doc:"the ETag that the object must still have; *: it must exist"`
	IfNoneMatch string `header:"If-None-Match" doc:"*: the object must not exist"`
}

// of returns the Conditions of a change to a service or, without one, to the whole state.
func (c Conditions) of(service *config.ServiceKey) (list []ctl.Condition, err error) {
	switch {
	case c.IfMatch == "*":
		list = append(list, ctl.Condition{Service: service, Exists: true})
	case c.IfMatch != "":
		revision, err := parseETag(c.IfMatch)
		if err != nil || revision == 0 && service != nil { // a director begins with 0, a service with 1
			return nil, config.Errorf(errSyntax,
				`If-Match %s is no ETag of a response, such as "5" with its quotes, nor *`, c.IfMatch)
		}
		list = append(list, ctl.Condition{Service: service, Revision: revision})
	}
	switch {
	case c.IfNoneMatch == "*" && service != nil:
		list = append(list, ctl.Condition{Service: service})
	case c.IfNoneMatch != "":
		return nil, config.Errorf(syscall.EINVAL, "If-None-Match %s: this can only be * for a service", c.IfNoneMatch)
	}
	return list, nil
}

func parseETag(tag string) (uint64, error) {
	text, err := strconv.Unquote(tag)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// change makes a change, all of it or nothing, and waits for the servers' next hops if asked to.
func (r *router) change(ctx context.Context, c ctl.Change, wait config.Seconds) (uint64, error) {
	c.Whole, c.Author = true, peerOf(ctx).author()
	revision, errs := r.Manager.Change(c)
	for _, err := range errs {
		if err != nil {
			return revision, err
		}
	}
	return revision, r.await(ctx, revision, wait)
}

// pollPeriod is how often await looks for next hops.
const pollPeriod = 50 * time.Millisecond

// await waits until all servers of the services that changed with a revision have a next hop.
func (r *router) await(ctx context.Context, revision uint64, wait config.Seconds) error {
	if wait == 0 {
		return nil
	}
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	timeout := time.After(time.Duration(wait) * time.Second)
	for {
		missing := r.Manager.Unreachable(revision)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout:
			text := missing[0].String()
			if more := len(missing) - 1; more > 0 {
				text += fmt.Sprintf(" and %d more", more)
			}
			return config.Errorf(syscall.ETIMEDOUT,
				"the change is in force, but after %s there is no next hop for server %s", wait, text)
		}
	}
}

// patched returns an object with changes (RFC 7396).
func patched(object any, patch []byte) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var before, changes map[string]any
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, err
	}
	if err := decode(patch, &changes); err != nil {
		return nil, err
	}
	return json.Marshal(merge(before, changes))
}

func merge(before any, changes map[string]any) map[string]any {
	object, ok := before.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range changes {
		switch v := value.(type) {
		case nil:
			delete(object, name)
		case map[string]any:
			object[name] = merge(object[name], v)
		default:
			object[name] = value
		}
	}
	return object
}

// retry calls change with the Conditions of the request. change adds the present revision to
// them; unless the request names one, that is tried again when it changes meanwhile.
func retry(given []ctl.Condition, change func(list []ctl.Condition) error) error {
	named := slices.ContainsFunc(given, func(c ctl.Condition) bool { return !c.Exists })
	for {
		if err := change(slices.Clip(given)); named || !errors.Is(err, syscall.ESTALE) {
			return err
		}
	}
}

// example is the body of a route, and an example of it.
type example[T any] struct{ value any }

func (e example[T]) of() (reflect.Type, any) { return reflect.TypeFor[T](), e.value }
