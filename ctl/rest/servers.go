package rest

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"syscall"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

// serverID is a server in a path: an address, with a port unless it is the service's.
type serverID struct {
	addr netip.Addr
	port *uint16
}

// UnmarshalText parses ADDRESS or ADDRESS:PORT.
func (id *serverID) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil {
		id.addr = addr.Unmap()
		return nil
	}
	ap, err := netip.ParseAddrPort(string(text))
	if err != nil {
		return config.Errorf(syscall.EINVAL, "%q is not a server; write 10.0.0.11:8080 or [2001:db8::11]:8080", text)
	}
	id.addr, id.port = ap.Addr().Unmap(), new(ap.Port())
	return nil
}

func (id *serverID) of(service config.ServiceKey) config.ServerKey {
	if id.port == nil {
		return config.ServerKey{Addr: id.addr, Port: service.Port}
	}
	return config.ServerKey{Addr: id.addr, Port: *id.port}
}

// InServer is the input of a route about a server.
type InServer struct {
	Server serverID `path:"server" doc:"the server: 10.0.0.11:8080, [2001:db8::11]:8080; without port: the service's"`
}

type getServer struct {
	InService
	InServer
}

type putServer struct {
	ChangeService
	InServer
	JSONBody
}

type patchServer struct {
	ChangeService
	InServer
	RawBody []byte `contentType:"application/merge-patch+json"`
}

type deleteServer struct {
	ChangeService
	InServer
}

func (r *router) serverRoutes() {
	const tag, path = "servers", "/v1/services/{id}/servers/{server}"
	add(r, route{
		method: "GET", path: "/v1/services/{id}/servers", tag: tag, id: "list-servers",
		summary: "list the servers of a service", errors: []int{404},
	}, func(_ context.Context, in *InService) (*tagged[[]api.ServerStatus], error) {
		status, err := r.Manager.Service(in.ID.ServiceKey)
		return taggedOf(status.ServerStatuses, status.Revision, err)
	})
	add(r, route{
		method: "PUT", path: path, tag: tag, id: "put-server",
		summary: "add a server, or make it what is given", errors: []int{400, 404, 412, 504},
		body: example[config.Server]{object{"method": "nat", "weight": 5}},
	}, r.putServer)
	add(r, route{
		method: "GET", path: path, tag: tag, id: "get-server", summary: "show a server", errors: []int{404},
	}, func(_ context.Context, in *getServer) (*tagged[api.ServerStatus], error) {
		return r.server(in.ID.ServiceKey, in.Server.of(in.ID.ServiceKey))
	})
	add(r, route{
		method: "PATCH", path: path, tag: tag, id: "patch-server",
		summary: "change parts of a server (RFC 7396)", errors: []int{400, 404, 412, 504}, bodyType: mergePatch,
		body: example[config.Server]{object{"weight": 1}},
	}, r.patchServer)
	add(r, route{
		method: "DELETE", path: path, tag: tag, id: "delete-server",
		summary: "remove a server; its connections end as setting removed_conns says", errors: []int{404, 412},
	}, func(ctx context.Context, in *deleteServer) (*struct{}, error) {
		server := config.Server{ServerKey: in.Server.of(in.ID.ServiceKey)}
		return nil, r.changeOf(ctx, &in.ChangeService, config.Op{Kind: config.DeleteServer, Server: &server})
	})
	add(r, route{
		method: "DELETE", path: "/v1/services/{id}", tag: "services", id: "delete-service",
		summary: "remove a service with its servers", errors: []int{404, 412},
	}, func(ctx context.Context, in *ChangeService) (*struct{}, error) {
		return nil, r.changeOf(ctx, in, config.Op{Kind: config.DeleteService})
	})
}

func (r *router) server(service config.ServiceKey, key config.ServerKey) (*tagged[api.ServerStatus], error) {
	status, err := r.Manager.Service(service)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(status.ServerStatuses, func(s api.ServerStatus) bool { return s.ServerKey == key })
	if i < 0 {
		return nil, config.Errorf(syscall.ENOENT, "service %s has no server %s", service, key)
	}
	return taggedOf(status.ServerStatuses[i], status.Revision, nil)
}

func (r *router) putServer(ctx context.Context, in *putServer) (*tagged[api.ServerStatus], error) {
	server, err := decodeServer(in.RawBody, in.Server.of(in.ID.ServiceKey))
	if err != nil {
		return nil, err
	}
	server.Place(in.ID.ServiceKey)
	_, missing := r.server(in.ID.ServiceKey, server.ServerKey)
	if err := r.changeOf(ctx, &in.ChangeService, config.Op{Kind: config.PutServer, Server: &server}); err != nil {
		return nil, err
	}
	out, err := r.server(in.ID.ServiceKey, server.ServerKey)
	if missing != nil && err == nil {
		out.Status = http.StatusCreated
	}
	return out, err
}

func (r *router) patchServer(ctx context.Context, in *patchServer) (*tagged[api.ServerStatus], error) {
	service, key := in.ID.ServiceKey, in.Server.of(in.ID.ServiceKey)
	given, err := in.of(&service)
	if err != nil {
		return nil, err
	}
	var revision uint64
	err = retry(given, func(list []ctl.Condition) error {
		svc, err := r.Manager.Configured(service)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(svc.Servers, func(s config.Server) bool { return s.ServerKey == key })
		if i < 0 {
			return config.Errorf(syscall.ENOENT, "service %s has no server %s", service, key)
		}
		text, err := patched(svc.Servers[i], in.RawBody)
		if err != nil {
			return err
		}
		server, err := decodeServer(text, key)
		if err := cmp.Or(err, server.CheckEdited(service)); err != nil {
			return err
		}
		list = append(list, ctl.Condition{Service: &service, Revision: svc.Revision})
		op := config.Op{Kind: config.EditServer, Service: &config.Service{ServiceKey: service}, Server: &server}
		revision, err = r.change(ctx, ctl.Change{Ops: []config.Op{op}, If: list}, 0)
		return err
	})
	if err := cmp.Or(err, r.await(ctx, revision, in.Wait.Seconds)); err != nil {
		return nil, err
	}
	return r.server(service, key)
}

// decodeServer decodes a server, whose address may be missing because the path has it.
func decodeServer(text []byte, key config.ServerKey) (server config.Server, err error) {
	members, err := writable(text)
	if err != nil {
		return server, err
	}
	addMissing(members, key)
	if err := decode(marshalled(members), &server); err != nil {
		return server, err
	}
	if server.Addr = server.Addr.Unmap(); server.ServerKey != key {
		return server, config.Errorf(syscall.EINVAL, "the path is that of server %s, the body has %s",
			key, server.ServerKey)
	}
	return server, nil
}
