package rest

import (
	"context"
	"maps"

	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

type PutState struct {
	Conditions
	JSONBody
}

type PatchState struct {
	Conditions
	RawBody []byte `contentType:"application/merge-patch+json"`
}

func (r *router) settingRoutes() {
	const tag = "settings"
	errs := []int{400, 412}
	values := example[config.Values]{object{"slow_start": "30s", "schedule_icmp": true}}
	add(r, route{
		method: "GET", path: "/v1/settings", tag: tag, id: "list-settings",
		summary: "list all settings with their values, defaults and meanings",
	}, func(context.Context, *struct{}) (*tagged[[]config.Setting], error) { return r.settings(nil) })
	add(r, route{
		method: "PATCH", path: "/v1/settings", tag: tag, id: "patch-settings", bodyType: mergePatch,
		summary: "change settings; null gives one its default", errors: errs, body: values,
	}, func(ctx context.Context, in *PatchState) (*tagged[[]config.Setting], error) {
		return r.patchSettings(ctx, nil, in.Conditions, in.RawBody)
	})
	add(r, route{
		method: "PUT", path: "/v1/settings", tag: tag, id: "put-settings",
		summary: "set these settings; all others get their defaults", errors: errs, body: values,
	}, func(ctx context.Context, in *PutState) (*tagged[[]config.Setting], error) {
		return r.putSettings(ctx, nil, in.Conditions, in.RawBody)
	})
	r.serviceSettingRoutes(tag)
	r.markRoutes(tag)
	r.adminRoutes(tag)
}

type putServiceSettings struct {
	InService
	PutState
}

type patchServiceSettings struct {
	InService
	PatchState
}

func (r *router) serviceSettingRoutes(tag string) {
	errs := []int{400, 404, 412}
	values := example[serviceValues]{object{"slow_start": "60s"}}
	const path = "/v1/services/{id}/settings"
	add(r, route{
		method: "GET", path: path, tag: tag, id: "list-service-settings",
		summary: "list the settings that a service can have, with the director's values as defaults", errors: errs[1:2],
	}, func(_ context.Context, in *InService) (*tagged[[]config.Setting], error) {
		return r.settings(&in.ID.ServiceKey)
	})
	add(r, route{
		method: "PATCH", path: path, tag: tag, id: "patch-service-settings", bodyType: mergePatch,
		summary: "change settings of a service; null gives one the director's value", errors: errs, body: values,
	}, func(ctx context.Context, in *patchServiceSettings) (*tagged[[]config.Setting], error) {
		return r.patchSettings(ctx, &in.ID.ServiceKey, in.Conditions, in.RawBody)
	})
	add(r, route{
		method: "PUT", path: path, tag: tag, id: "put-service-settings",
		summary: "set these settings of a service; all others get the director's values", errors: errs, body: values,
	}, func(ctx context.Context, in *putServiceSettings) (*tagged[[]config.Setting], error) {
		return r.putSettings(ctx, &in.ID.ServiceKey, in.Conditions, in.RawBody)
	})
}

func (r *router) settings(of *config.ServiceKey) (*tagged[[]config.Setting], error) {
	_, revision, err := r.Manager.Values(of)
	if err != nil {
		return nil, err
	}
	list, err := r.Manager.Settings(of)
	return taggedOf(list, revision, err)
}

// opOn returns an operation on the director or a service.
func opOn(kind config.OpKind, of *config.ServiceKey) config.Op {
	op := config.Op{Kind: kind}
	if of != nil {
		op.Service = &config.Service{ServiceKey: *of}
	}
	return op
}

func (r *router) putSettings(
	ctx context.Context, of *config.ServiceKey, c Conditions, text []byte,
) (*tagged[[]config.Setting], error) {
	list, err := c.of(of)
	if err != nil {
		return nil, err
	}
	op := opOn(config.PutSettings, of)
	if err := decode(text, &op.Settings); err != nil {
		return nil, err
	}
	if _, err := r.change(ctx, ctl.Change{Ops: []config.Op{op}, If: list}, 0); err != nil {
		return nil, inBody(err, "/settings")
	}
	return r.settings(of)
}

func (r *router) patchSettings(
	ctx context.Context, of *config.ServiceKey, c Conditions, patch []byte,
) (*tagged[[]config.Setting], error) {
	given, err := c.of(of)
	if err != nil {
		return nil, err
	}
	err = retry(given, func(list []ctl.Condition) error {
		before, revision, err := r.Manager.Values(of)
		if err != nil {
			return err
		}
		op := opOn(config.PutSettings, of)
		if op.Settings, err = patchedValues(before, patch); err != nil {
			return err
		}
		list = append(list, ctl.Condition{Service: of, Revision: revision})
		_, err = r.change(ctx, ctl.Change{Ops: []config.Op{op}, If: list}, 0)
		return err
	})
	if err != nil {
		return nil, inBody(err, "/settings")
	}
	return r.settings(of)
}

// patchedValues returns settings with changes (RFC 7396). These may have IPVS's names.
func patchedValues(before config.Values, patch []byte) (config.Values, error) {
	var given map[string]jsontext.Value
	if err := decode(patch, &given); err != nil {
		return nil, err
	}
	var defaults []string
	for name, value := range given {
		if value.Kind() == 'n' {
			defaults, given[name] = append(defaults, name), jsontext.Value("0")
		}
	}
	var changes config.Values
	if err := decode(marshalled(given), &changes); err != nil {
		return nil, err
	}
	after := config.Values{}
	maps.Copy(after, before)
	for name := range changes {
		delete(after, config.SettingName(name))
	}
	maps.Copy(after, changes)
	for _, name := range defaults {
		delete(after, name)
	}
	return after, nil
}

func (r *router) markRoutes(tag string) {
	rules := example[[]config.MarkRule]{[]object{{
		"destination": "192.0.2.0/24", "protocol": "tcp", "destination_ports": []any{80, "8000:8100"}, "mark": 7,
	}}}
	marks := func() (*tagged[[]config.MarkRule], error) {
		_, revision, _ := r.Manager.State()
		return taggedOf(r.Manager.Marks(), revision, nil)
	}
	add(r, route{
		method: "GET", path: "/v1/marks", tag: tag, id: "list-marks",
		summary: "list the mark rules; the last that matches a packet decides",
	}, func(context.Context, *struct{}) (*tagged[[]config.MarkRule], error) { return marks() })
	for _, v := range []struct {
		method, id, summary string
		kind                config.OpKind
		errors              []int
	}{
		{"PUT", "put-marks", "replace all mark rules", config.PutMarks, []int{400, 409, 412}},
		{"DELETE", "delete-marks", "remove these mark rules", config.DeleteMarks, []int{400, 404, 412}},
		{"POST", "add-marks", "add mark rules after the others", config.AddMarks, []int{400, 409, 412}},
	} {
		add(r, route{
			method: v.method, path: "/v1/marks", tag: tag, id: v.id, summary: v.summary, errors: v.errors, body: rules,
		}, func(ctx context.Context, in *PutState) (*tagged[[]config.MarkRule], error) {
			op := config.Op{Kind: v.kind}
			if err := r.putState(ctx, in, "/marks", &op, &op.Marks); err != nil {
				return nil, err
			}
			return marks()
		})
	}
}

// putState makes an operation whose part is the body.
func (r *router) putState(ctx context.Context, in *PutState, part string, op *config.Op, value any) error {
	list, err := in.of(nil)
	if err != nil {
		return err
	}
	if err := in.decode(value); err != nil {
		return err
	}
	_, err = r.change(ctx, ctl.Change{Ops: []config.Op{*op}, If: list}, 0)
	return inBody(err, jsontext.Pointer(part))
}

type AdminServer struct {
	Server  serverID  `path:"server" doc:"ADDRESS or ADDRESS:PORT of servers"`
	Service serviceID `query:"service" doc:"only in this service"`
}

type putAdminServer struct {
	AdminServer
	JSONBody
}

func (in *AdminServer) scope() config.AdminScope {
	scope := config.AdminScope{Service: in.Service.ServiceKey, Addr: in.Server.addr}
	if in.Server.port != nil {
		scope.Port = *in.Server.port
	}
	return scope
}

func (r *router) adminRoutes(tag string) {
	admin := func() (*tagged[[]config.AdminRule], error) {
		_, revision, _ := r.Manager.State()
		return taggedOf(r.Manager.AdminRules(), revision, nil)
	}
	set := func(ctx context.Context, rule config.AdminRule) (*tagged[[]config.AdminRule], error) {
		_, err := r.change(ctx, ctl.Change{Ops: []config.Op{{Kind: config.SetAdmin, Admin: &rule}}}, 0)
		if err != nil {
			return nil, err
		}
		return admin()
	}
	const path = "/v1/admin/{server}"
	add(r, route{
		method: "PUT", path: path, tag: tag, id: "put-admin-state",
		summary: "drain servers or take them down, whatever the configuration says of them",
		errors:  []int{400, 404, 409}, body: example[api.AdminState]{object{"admin": "drain"}},
	}, func(ctx context.Context, in *putAdminServer) (*tagged[[]config.AdminRule], error) {
		var state api.AdminState
		if err := in.decode(&state); err != nil {
			return nil, err
		}
		return set(ctx, config.AdminRule{AdminScope: in.scope(), Admin: state.Admin})
	})
	add(r, route{
		method: "GET", path: "/v1/admin", tag: tag, id: "list-admin", summary: "list the servers that are not up",
	}, func(context.Context, *struct{}) (*tagged[[]config.AdminRule], error) { return admin() })
	add(r, route{
		method: "DELETE", path: path, tag: tag, id: "delete-admin-state", summary: "take a server up again",
		errors: []int{404, 409},
	}, func(ctx context.Context, in *AdminServer) (*tagged[[]config.AdminRule], error) {
		return set(ctx, config.AdminRule{AdminScope: in.scope(), Admin: config.AdminUp})
	})
	add(r, route{
		method: "PUT", path: "/v1/admin", tag: tag, id: "put-admin", summary: "replace the list; all others are up",
		errors: []int{400, 412}, body: example[[]config.AdminRule]{[]object{{"address": "10.0.0.12", "admin": "down"}}},
	}, func(ctx context.Context, in *PutState) (*tagged[[]config.AdminRule], error) {
		op := config.Op{Kind: config.PutAdmin}
		if err := r.putState(ctx, in, "/admin", &op, &op.AdminRules); err != nil {
			return nil, err
		}
		return admin()
	})
}
