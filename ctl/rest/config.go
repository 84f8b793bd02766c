package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

type putConfig struct {
	Conditions
	Waiting
	JSONBody
	How     string  `query:"how" doc:"how the change came, for the list of versions: apply uvs.yaml"`
	File    string  `query:"file" doc:"a digest of the file that the configuration is from"`
	Confirm seconds `query:"confirm" doc:"the change takes itself back after this time, such as 60s, unless it is confirmed"`
}

// inVersion is the input of a route about a version.
type inVersion struct {
	Revision uint64 `path:"revision" doc:"the revision of a version"`
}

func (r *router) configRoutes() {
	const tag = "configuration"
	document := example[config.Document]{object{"services": []object{{
		"address": "192.0.2.10", "port": 80, "protocol": "tcp", "scheduler": "wlc", "servers": []object{exampleServer},
	}}}}
	add(r, route{
		method: "GET", path: "/v1/config", tag: tag, id: "get-config", summary: "show the whole configuration",
	}, func(context.Context, *struct{}) (*tagged[*config.Document], error) {
		d, revision := r.Manager.Document()
		return taggedOf(d, revision, nil)
	})
	add(r, route{
		method: "POST", path: "/v1/config/diff", tag: tag, id: "diff-config",
		summary: "show what would change, and whose connections that touches", errors: []int{400},
		body: document, readsOnly: true,
	}, r.diff)
	add(r, route{
		method: "PUT", path: "/v1/config", tag: tag, id: "put-config", summary: "apply a whole configuration",
		errors: []int{400, 409, 412, 504}, body: document, params: object{"how": "apply uvs.yaml", "confirm": "60s"},
	}, r.putConfig)
	add(r, route{
		method: "POST", path: "/v1/config/confirm", tag: tag, id: "confirm",
		summary: "keep the change that would take itself back", errors: []int{404},
	}, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		return nil, r.Manager.Confirm(peerOf(ctx).author())
	})
	add(r, route{
		method: "POST", path: "/v1/config/take-back", tag: tag, id: "take-back",
		summary: "take back the change that waits to be confirmed", errors: []int{404},
	}, func(ctx context.Context, _ *struct{}) (*result[api.Applied], error) {
		revision, err := r.Manager.TakeBack(peerOf(ctx).author())
		return resultOf(api.Applied{Revision: revision}, err)
	})
	r.versionRoutes(tag)
	add(r, route{
		method: "POST", path: "/v1/reload", tag: tag, id: "reload", summary: "apply the configuration file again",
		errors: []int{404, 409, 422},
	}, r.reload)
	add(r, route{
		method: "POST", path: "/v1/transactions", tag: tag, id: "transact",
		summary: "make operations together, all or nothing unless whole is false",
		errors:  []int{400, 404, 409, 412, 504},
		body: example[api.Transaction]{object{"operations": []object{{
			"verb": "add-service", "service": object{
				"address": "192.0.2.20", "port": 443, "protocol": "tcp", "scheduler": "rr", "servers": []object{},
			},
		}}}},
	}, r.transact)
}

func (r *router) versionRoutes(tag string) {
	add(r, route{
		method: "GET", path: "/v1/versions", tag: tag, id: "list-versions",
		summary: "list the configurations that were applied, the newest first",
	}, func(context.Context, *struct{}) (*result[[]api.Version], error) {
		return resultOf(r.Manager.Versions(), nil)
	})
	add(r, route{
		method: "GET", path: "/v1/versions/{revision}", tag: tag, id: "get-version",
		summary: "show a configuration that was applied", errors: []int{404},
	}, func(_ context.Context, in *inVersion) (*result[*config.Document], error) {
		return resultOf(r.Manager.Version(in.Revision))
	})
	rollback := func(ctx context.Context, revision uint64) (*result[api.Applied], error) {
		now, err := r.Manager.Rollback(peerOf(ctx).author(), revision)
		return resultOf(api.Applied{Revision: now}, err)
	}
	add(r, route{
		method: "POST", path: "/v1/versions/{revision}/rollback", tag: tag, id: "rollback-to",
		summary: "put a configuration in force again", errors: []int{404, 409},
	}, func(ctx context.Context, in *inVersion) (*result[api.Applied], error) {
		return rollback(ctx, in.Revision)
	})
	add(r, route{
		method: "POST", path: "/v1/rollback", tag: tag, id: "rollback",
		summary: "put the configuration before the newest in force again", errors: []int{404, 409},
	}, func(ctx context.Context, _ *struct{}) (*result[api.Applied], error) { return rollback(ctx, 0) })
}

func (r *router) diff(_ context.Context, in *JSONBody) (*result[[]api.Step], error) {
	d := new(config.Document)
	if err := in.decode(d); err != nil {
		return nil, err
	}
	return resultOf(r.Manager.Preview(d))
}

func (r *router) putConfig(ctx context.Context, in *putConfig) (*tagged[api.Applied], error) {
	list, err := in.of(nil)
	if err != nil {
		return nil, err
	}
	d := new(config.Document)
	if err := in.decode(d); err != nil {
		return nil, err
	}
	if r.OwnFile == nil || !r.OwnFile(in.File) {
		in.File = ""
	}
	revision, err := r.change(ctx, ctl.Change{
		Ops: []config.Op{{Kind: config.Replace, Document: d}}, If: list,
		How: cmp.Or(valid(in.How), "apply"), File: valid(in.File),
		Confirm: time.Duration(in.Confirm.Seconds) * time.Second,
	}, in.Wait.Seconds)
	return taggedOf(api.Applied{Revision: revision}, revision, err)
}

func (r *router) reload(ctx context.Context, _ *struct{}) (*result[api.Reloaded], error) {
	if r.Reload == nil {
		return nil, config.Errorf(syscall.ENOENT, "the director was started without a configuration file (--config)")
	}
	nextStart, err := r.Reload(peerOf(ctx).author())
	if err != nil { // of the file, or of what it says
		refused := &config.Error{Errno: syscall.EINVAL}
		errors.As(err, &refused)
		err = &config.Error{Errno: refused.Errno, Message: err.Error(), Pointer: refused.Pointer}
	}
	_, revision, _ := r.Manager.State()
	return resultOf(api.Reloaded{Revision: revision, NextStart: nextStart}, err)
}

type transact struct {
	Waiting
	JSONBody
}

func (r *router) transact(ctx context.Context, in *transact) (*tagged[api.TransactionResult], error) {
	t := api.Transaction{Whole: true}
	if err := in.decode(&t); err != nil {
		return nil, err
	}
	if n := len(t.Operations); n == 0 || n > api.MaxOps {
		return nil, config.Errorf(syscall.EINVAL, "%d operations in one request: it can have 1 to %d", n, api.MaxOps)
	}
	change := ctl.Change{Ops: t.Operations, Whole: t.Whole, Author: peerOf(ctx).author()}
	if t.IfRevision != nil {
		change.If = []ctl.Condition{{Revision: *t.IfRevision}}
	}
	out := api.TransactionResult{Results: make([]*config.Error, len(t.Operations))}
	var errs []error
	out.Revision, errs = r.Manager.Change(change)
	for i, err := range errs {
		switch {
		case err == nil:
			continue
		case t.Whole || errors.Is(err, syscall.ESTALE):
			return nil, operationProblem(i, err)
		}
		out.Results[i] = problemOf(err).Refusal()
	}
	return taggedOf(out, out.Revision, r.await(ctx, out.Revision, in.Wait.Seconds))
}

// operationProblem returns the problem of a transaction's operation.
func operationProblem(i int, err error) error {
	p := problemOf(err)
	place := jsontext.Pointer(fmt.Sprintf("/operations/%d", i))
	if !errors.Is(err, syscall.ESTALE) {
		p.Errors = []api.ProblemValue{{Location: string(place), Message: p.Detail}}
	}
	return p
}
