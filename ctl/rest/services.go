package rest

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/netip"
	"syscall"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

// serviceID is a service in a path, such as tcp:192.0.2.10:80.
type serviceID struct{ config.ServiceKey }

// UnmarshalText is config.ParseServiceKey.
func (id *serviceID) UnmarshalText(text []byte) (err error) {
	id.ServiceKey, err = config.ParseServiceKey(string(text))
	return err
}

// MarshalText returns the service's name.
func (id serviceID) MarshalText() ([]byte, error) { return []byte(id.Text()), nil }

// InService is the input of a route about a service.
type InService struct {
	ID serviceID `path:"id" doc:"the service: tcp:192.0.2.10:80, udp:[2001:db8::1]:53, fwm:1 or fwm6:1"`
}

// ChangeService is the input of a route that changes a service.
type ChangeService struct {
	InService
	Conditions
	Waiting
}

// protocol is a parameter.
type protocol struct{ config.Proto }

type listServices struct {
	Protocol protocol   `query:"protocol" doc:"only services of this protocol"`
	Address  netip.Addr `query:"address" doc:"only services of this address"`
	Mark     uint32     `query:"mark" doc:"only services of this mark"`
	Name     string     `query:"name" doc:"only services whose name begins so, as tcp:192.0.2."`
	Brief    bool       `query:"brief" doc:"servers without stats, hop and path, which costs a third"`
	Limit    int        `query:"limit" doc:"at most so many; the header Link then leads to the next"`
	Cursor   serviceID  `query:"cursor" doc:"begin after this service, which the list before ended with"`
	Accept   string     `header:"Accept" doc:"application/x-gob: a gob of Go for each service, which is faster"`
}

type listedServices struct {
	Link string `header:"Link" doc:"the next part of the list, if there is one"`
	Body func(huma.Context)
}

// exampleService is the service that examples are about.
var exampleService = config.ServiceKey{Proto: 6, Addr: netip.MustParseAddr("192.0.2.10"), Port: 80}

type object = map[string]any

var exampleServer = object{"address": "10.0.0.11", "port": 8080, "method": "nat", "weight": 3}

func (r *router) serviceRoutes() {
	const tag = "services"
	add(r, route{
		method: "GET", path: "/v1/services", tag: tag, id: "list-services", summary: "list services and their servers",
		errors: []int{410}, list: []api.ServiceStatus{}, params: object{"protocol": "tcp", "limit": 10},
	}, r.listServices)
	add(r, route{
		method: "PUT", path: "/v1/services/{id}", tag: tag, id: "put-service",
		summary: "add a service, or make it what is given",
		errors:  []int{400, 412, 504}, body: example[config.Service]{object{
			"scheduler": "wlc", "servers": []object{exampleServer},
		}},
	}, r.putService)
	add(r, route{
		method: "GET", path: "/v1/services/{id}", tag: tag, id: "get-service", summary: "show a service",
		errors: []int{404},
	}, func(_ context.Context, in *InService) (*tagged[api.ServiceStatus], error) {
		return r.service(in.ID.ServiceKey)
	})
	add(r, route{
		method: "PATCH", path: "/v1/services/{id}", tag: tag, id: "patch-service",
		summary: "change parts of a service (RFC 7396); null gives a part its default",
		errors:  []int{400, 404, 412, 504}, bodyType: mergePatch,
		body: example[config.Service]{object{"scheduler": "rr", "persistent": "300s"}},
	}, r.patchService)
	add(r, route{
		method: "GET", path: "/v1/services/{id}/sorry", tag: tag, id: "get-sorry", summary: "show the sorry server",
		errors: []int{404},
	}, r.getSorry)
	add(r, route{
		method: "PUT", path: "/v1/services/{id}/sorry", tag: tag, id: "put-sorry",
		summary: "give a service a sorry server, which is used while no other takes a new connection",
		errors:  []int{400, 404, 412, 504}, body: example[config.Server]{object{"address": "10.0.0.99", "port": 80}},
	}, r.putSorry)
	add(r, route{
		method: "DELETE", path: "/v1/services/{id}/sorry", tag: tag, id: "delete-sorry",
		summary: "take the sorry server away", errors: []int{404, 412},
	}, func(ctx context.Context, in *ChangeService) (*struct{}, error) {
		return nil, r.changeOf(ctx, in, config.Op{Kind: config.SetSorry})
	})
}

// mergePatch is the content type of RFC 7396.
const mergePatch = "application/merge-patch+json"

func (r *router) listServices(_ context.Context, in *listServices) (*listedServices, error) {
	f := api.ServiceFilter{
		Proto: in.Protocol.Proto, Addr: in.Address, FWMark: in.Mark, Name: in.Name, Limit: in.Limit,
		Brief: in.Brief,
	}
	if in.Limit < 0 {
		return nil, config.Errorf(syscall.EINVAL, "limit %d is negative", in.Limit)
	}
	if in.Cursor.ServiceKey != (config.ServiceKey{}) {
		f.After = &in.Cursor.ServiceKey
	}
	list, last, err := r.Manager.Find(f)
	if err != nil {
		return nil, err
	}
	out := &listedServices{Body: serviceList{r.Manager, list, in.Brief}.writer(in.Accept)}
	if f.After = last; last != nil {
		out.Link = "</v1/services?" + f.Query().Encode() + `>; rel="next"`
	}
	return out, nil
}

func (r *router) service(key config.ServiceKey) (*tagged[api.ServiceStatus], error) {
	status, err := r.Manager.Service(key)
	return taggedOf(status, status.Revision, err)
}

// changeOf makes an operation on a service.
func (r *router) changeOf(ctx context.Context, in *ChangeService, op config.Op) error {
	list, err := in.of(&in.ID.ServiceKey)
	if err != nil {
		return err
	}
	if op.Service == nil {
		op.Service = &config.Service{ServiceKey: in.ID.ServiceKey}
	}
	_, err = r.change(ctx, ctl.Change{Ops: []config.Op{op}, If: list}, in.Wait.Seconds)
	return err
}

type putService struct {
	ChangeService
	JSONBody
}

func (r *router) putService(ctx context.Context, in *putService) (*tagged[api.ServiceStatus], error) {
	svc, err := decodeService(in.RawBody, in.ID.ServiceKey)
	if err != nil {
		return nil, err
	}
	_, missing := r.Manager.Configured(in.ID.ServiceKey)
	if err := r.changeOf(ctx, &in.ChangeService, config.Op{Kind: config.PutService, Service: &svc}); err != nil {
		return nil, err
	}
	out, err := r.service(in.ID.ServiceKey)
	if missing != nil {
		out.Status = http.StatusCreated
	}
	return out, err
}

func (r *router) patchService(ctx context.Context, in *patchService) (*tagged[api.ServiceStatus], error) {
	key := in.ID.ServiceKey
	given, err := in.of(&key)
	if err != nil {
		return nil, err
	}
	var revision uint64
	err = retry(given, func(list []ctl.Condition) error {
		before, err := r.Manager.Configured(key)
		if err != nil {
			return err
		}
		text, err := patched(before, in.RawBody)
		if err != nil {
			return err
		}
		svc, err := decodeService(text, key)
		if err != nil {
			return err
		}
		list = append(list, ctl.Condition{Service: &key, Revision: before.Revision})
		op := config.Op{Kind: config.PutService, Service: &svc}
		revision, err = r.change(ctx, ctl.Change{Ops: []config.Op{op}, If: list}, 0)
		return err
	})
	if err := cmp.Or(err, r.await(ctx, revision, in.Wait.Seconds)); err != nil {
		return nil, err
	}
	return r.service(key)
}

type patchService struct {
	ChangeService
	RawBody []byte `contentType:"application/merge-patch+json"`
}

// readOnly are members of listings that a change ignores, so that what was read can be
// written.
var readOnly = []string{"revision", "stats", "state", "hop", "path", "active", "inactive", "persist_conns"}

// decodeService decodes a service, whose address may be missing because the path has it.
func decodeService(text []byte, key config.ServiceKey) (svc config.Service, err error) {
	members, err := writable(text)
	if err != nil {
		return svc, err
	}
	var servers []jsontext.Value
	if json.Unmarshal(members["servers"], &servers) == nil && servers != nil {
		for i := range servers {
			servers[i] = withoutReadOnly(servers[i])
		}
		members["servers"] = marshalled(servers)
	}
	if sorry := members["sorry"]; sorry != nil {
		members["sorry"] = withoutReadOnly(sorry)
	}
	addMissing(members, key)
	if err := decode(marshalled(members), &svc); err != nil {
		return svc, err
	}
	if svc.Addr = svc.Addr.Unmap(); svc.ServiceKey != key {
		return svc, config.Errorf(syscall.EINVAL, "the path is that of service %s, the body has %s",
			key, svc.ServiceKey)
	}
	return svc, nil
}

// writable decodes an object, without the members that only listings have.
func writable(text []byte) (members map[string]jsontext.Value, err error) {
	err = decode(text, &members)
	for _, name := range readOnly {
		delete(members, name)
	}
	return members, err
}

func withoutReadOnly(text jsontext.Value) jsontext.Value {
	var members map[string]jsontext.Value
	if json.Unmarshal(text, &members) != nil || members == nil {
		return text
	}
	for _, name := range readOnly {
		delete(members, name)
	}
	return marshalled(members)
}

// addMissing adds members of a key that an object does not have. A member that is null is missing.
func addMissing(members map[string]jsontext.Value, key any) {
	maps.DeleteFunc(members, func(_ string, value jsontext.Value) bool { return value.Kind() == 'n' })
	var own map[string]jsontext.Value
	if json.Unmarshal(marshalled(key), &own) == nil {
		maps.Copy(own, members)
		maps.Copy(members, own)
	}
}

// marshalled returns what was JSON before as JSON.
func marshalled(v any) jsontext.Value {
	text, _ := json.Marshal(v)
	return text
}

func (r *router) getSorry(_ context.Context, in *InService) (*tagged[api.ServerStatus], error) {
	status, err := r.Manager.Service(in.ID.ServiceKey)
	if err == nil && status.Sorry == nil {
		err = config.Errorf(syscall.ENOENT, "service %s has no sorry server", in.ID.ServiceKey)
	}
	if err != nil {
		return nil, err
	}
	return taggedOf(*status.Sorry, status.Revision, nil)
}

func (r *router) putSorry(ctx context.Context, in *putService) (*tagged[api.ServerStatus], error) {
	var server config.Server
	if err := decode(withoutReadOnly(in.RawBody), &server); err != nil {
		return nil, err
	}
	server.TakePort(in.ID.ServiceKey)
	if err := r.changeOf(ctx, &in.ChangeService, config.Op{Kind: config.SetSorry, Server: &server}); err != nil {
		return nil, err
	}
	return r.getSorry(ctx, &in.InService)
}
