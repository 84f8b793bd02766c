package rest

import (
	"cmp"
	"context"
	"slices"
	"syscall"
	"time"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

func (r *router) stateRoutes() {
	const tag = "state"
	add(r, route{method: "GET", path: "/v1/info", tag: tag, id: "get-info", summary: "show what the director is"},
		func(context.Context, *struct{}) (*result[api.Info], error) { return resultOf(r.info(), nil) })
	add(r, route{
		method: "GET", path: "/v1/status", tag: tag, id: "get-status",
		summary: "show what the director is, and what it would start with now, for which it reads its file",
	}, func(context.Context, *struct{}) (*result[api.Info], error) {
		info := r.info()
		if r.NextStart != nil {
			info.NextStart = r.NextStart()
		}
		return resultOf(info, nil)
	})
	add(r, route{
		method: "GET", path: "/v1/healthz", tag: tag, id: "get-health", summary: "is the director working?",
		errors: []int{500},
	}, func(context.Context, *struct{}) (*result[api.Health], error) {
		if r.Healthy != nil {
			if err := r.Healthy(); err != nil {
				return nil, err
			}
		}
		return resultOf(api.Health{Status: "ok"}, nil)
	})
	add(r, route{method: "GET", path: "/v1/counters", tag: tag, id: "list-counters", summary: "list all counters"},
		func(context.Context, *struct{}) (*result[[]api.Counter], error) {
			m := r.Manager
			return resultOf(slices.Concat(m.Verdicts(), m.HelperCounters(), r.Counters(), r.counters()), nil)
		})
	add(r, route{
		method: "GET", path: "/v1/timeouts", tag: tag, id: "get-timeouts",
		summary: "show the three timeouts of ipvsadm --set, in seconds",
	}, func(context.Context, *struct{}) (*result[config.Timeouts], error) {
		return resultOf(r.Manager.Timeouts(), nil)
	})
	add(r, route{
		method: "POST", path: "/v1/zero", tag: tag, id: "zero", summary: "set counters of a service or of all to 0",
		errors: []int{404},
	}, func(ctx context.Context, in *ofService) (*struct{}, error) {
		op := config.Op{Kind: config.Zero}
		if key := in.Service.ServiceKey; key != (config.ServiceKey{}) {
			op.Service = &config.Service{ServiceKey: key}
		}
		_, err := r.change(ctx, ctl.Change{Ops: []config.Op{op}}, 0)
		return nil, err
	})
	r.roleRoutes(tag)
	r.logRoutes(tag)
	r.eventRoutes(tag)
}

// ofService is the input of a route about a service or all.
type ofService struct {
	Service serviceID `query:"service" doc:"only of this service"`
}

func (r *router) info() api.Info {
	info := r.Info
	info.Role, info.Revision, info.ConfirmBy = r.Manager.State()
	info.Uptime = config.Seconds(time.Since(r.Started) / time.Second)
	return info
}

func (r *router) roleRoutes(tag string) {
	role := func() (*result[api.Role], error) { return resultOf(api.Role{Role: r.Manager.Role()}, nil) }
	add(r, route{method: "GET", path: "/v1/role", tag: tag, id: "get-role", summary: "active or standby?"},
		func(context.Context, *struct{}) (*result[api.Role], error) { return role() })
	add(r, route{
		method: "PUT", path: "/v1/role", tag: tag, id: "put-role",
		summary: "serve the VIPs, or let another director serve them", errors: []int{400},
		body: example[api.Role]{object{"role": "active"}},
	}, func(ctx context.Context, in *JSONBody) (*result[api.Role], error) {
		var want api.Role
		if err := in.decode(&want); err != nil {
			return nil, err
		}
		kind, ok := map[string]config.OpKind{"active": config.Active, "standby": config.Standby}[want.Role]
		if !ok {
			return nil, &config.Error{
				Errno: syscall.EINVAL, Message: `role "` + want.Role + `" is not active or standby`, Pointer: "/role",
			}
		}
		if _, err := r.change(ctx, ctl.Change{Ops: []config.Op{{Kind: kind}}}, 0); err != nil {
			return nil, err
		}
		return role()
	})
}

func (r *router) logRoutes(tag string) {
	log := func() (*result[api.Log], error) {
		if r.Log == nil {
			return nil, config.Errorf(syscall.ENOENT, "this director's log cannot be changed")
		}
		return resultOf(r.Log(), nil)
	}
	add(r, route{
		method: "GET", path: "/v1/log", tag: tag, id: "get-log", summary: "what is logged, and how?",
		errors: []int{404},
	}, func(context.Context, *struct{}) (*result[api.Log], error) { return log() })
	add(r, route{
		method: "PUT", path: "/v1/log", tag: tag, id: "put-log", summary: "change what is logged, or how",
		errors: []int{400, 404}, body: example[api.Log]{object{"level": "debug"}},
	}, func(_ context.Context, in *JSONBody) (*result[api.Log], error) {
		before, err := log()
		if err != nil {
			return nil, err
		}
		var want api.Log
		if err := in.decode(&want); err != nil {
			return nil, err
		}
		want.Level, want.Format = cmp.Or(want.Level, before.Body.Level), cmp.Or(want.Format, before.Body.Format)
		if err := r.SetLog(want); err != nil {
			return nil, config.Errorf(syscall.EINVAL, "%v", err)
		}
		return log()
	})
}
