package rest

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

const about = `The director's configuration and state. Over the unix socket the kernel names who asks; over
TCP a certificate does. Objects are those of configuration files. Errors are problems (RFC 9457) with an errno.
A service has a name such as tcp:192.0.2.10:80, udp:[2001:db8::1]:53 or fwm:1, a server one such as 10.0.0.11:8080.`

// routes returns all routes, with their description.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0", Info: &huma.Info{Title: "uvs", Version: "1", Description: about},
			Components: &huma.Components{Schemas: newRegistry("#/components/schemas/")},
			Tags:       tags,
		},
		OpenAPIPath: "/v1/openapi", DefaultFormat: "application/json",
		Formats: map[string]huma.Format{"application/json": {Marshal: writeJSON}, "json": {Marshal: writeJSON}},
	}
	r := &router{Server: s, API: humago.New(mux, c)}
	r.UseMiddleware(r.check)
	r.configRoutes()
	r.serviceRoutes()
	r.serverRoutes()
	r.settingRoutes()
	r.stateRoutes()
	r.connRoutes()
	return mux
}

var tags = []*huma.Tag{
	{Name: "configuration", Description: "the whole of it, its versions, and operations in transactions"},
	{Name: "services", Description: "virtual services"},
	{Name: "servers", Description: "the real servers of a service"},
	{Name: "settings", Description: "of the director and of services; mark rules; what servers are drained or down"},
	{Name: "state", Description: "what the director is and does"},
	{Name: "connections", Description: "those that the director knows"},
}

// router registers routes.
type router struct {
	*Server
	huma.API
}

// check refuses requests of those who may not make them, and parameters that are unknown.
func (r *router) check(ctx huma.Context, next func(huma.Context)) {
	var err error
	if changes(ctx.Operation()) {
		err = peerOf(ctx.Context()).mayChange()
	}
	if err == nil {
		err = checkQuery(ctx)
	}
	if err != nil {
		_, w := humago.Unwrap(ctx)
		writeProblem(w, problemOf(err))
		return
	}
	if ctx.Operation().Extensions[readsOnly] != nil && !peerOf(ctx.Context()).changes {
		r.previews.Lock()
		defer r.previews.Unlock()
	}
	next(ctx)
}

// readsOnly marks operations that change nothing although their method is not GET.
const readsOnly = "x-reads-only"

func changes(op *huma.Operation) bool {
	return op.Method != http.MethodGet && op.Extensions[readsOnly] == nil
}

// checkQuery refuses parameters that are unknown or come twice.
func checkQuery(ctx huma.Context) error {
	u := ctx.URL()
	var known []string
	for _, p := range ctx.Operation().Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	for name, values := range u.Query() {
		location, message := "query."+name, ""
		switch near := config.Nearest(name, known); {
		case slices.Contains(known, name) && len(values) > 1:
			message = "parameter " + name + " is given twice"
		case slices.Contains(known, name):
			continue
		case near != "":
			message = "parameter " + name + " is not known here; did you mean " + near + "?"
		case known == nil:
			message = "parameter " + name + " is not known here; there are none"
		default:
			message = "parameter " + name + " is not known here; there are " + strings.Join(known, ", ")
		}
		p := problemOf(config.Errorf(syscall.EINVAL, "%s", message))
		p.Errors = []api.ProblemValue{{Location: location, Message: message}}
		return p
	}
	return nil
}

// route is what the description says of a route, beyond its types.
type route struct {
	method, path string
	tag, summary string
	id           string
	errors       []int
	body         interface{ of() (reflect.Type, any) }
	bodyType     string // "": application/json
	stream       any    // what the lines of a streamed response are
	list         any    // the list that is streamed
	params       map[string]any
	readsOnly    bool
}

// add registers a route.
func add[I, O any](r *router, to route, handler func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		Method: to.method, Path: to.path, OperationID: to.id, Summary: to.summary, Tags: []string{to.tag},
		MaxBodyBytes: maxBody, SkipValidateBody: true, SkipValidateParams: true,
		Errors: append(slices.Clone(to.errors), http.StatusForbidden), Responses: map[string]*huma.Response{},
	}
	if to.readsOnly {
		op.Extensions = map[string]any{readsOnly: true}
	}
	schemas := r.OpenAPI().Components.Schemas
	if to.body != nil {
		op.RequestBody = &huma.RequestBody{}
	}
	if to.stream != nil {
		line := schemas.Schema(reflect.TypeOf(to.stream), true, "")
		op.Responses["200"] = &huma.Response{
			Description: "one a line", Content: map[string]*huma.MediaType{"application/x-ndjson": {Schema: line}},
		}
	}
	if to.list != nil {
		list := schemas.Schema(reflect.TypeOf(to.list), true, "")
		op.Responses["200"] = &huma.Response{
			Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: list}},
		}
	}
	huma.Register(r, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			return nil, problemOf(err)
		}
		return out, nil
	})
	if to.body != nil {
		contentType := "application/json"
		if to.bodyType != "" {
			contentType = to.bodyType
		}
		t, example := to.body.of()
		op.RequestBody.Content = map[string]*huma.MediaType{contentType: {
			Schema: schemas.Schema(t, true, ""), Example: example,
		}}
	}
	r.exampleParameters(to)
}

// exampleParameters gives the parameters of a route their examples.
func (r *router) exampleParameters(to route) {
	item := r.OpenAPI().Paths[to.path]
	op := map[string]*huma.Operation{
		"GET": item.Get, "PUT": item.Put, "PATCH": item.Patch, "POST": item.Post, "DELETE": item.Delete,
	}[to.method]
	for _, p := range op.Parameters {
		if p.In != "path" && to.params[p.Name] == nil {
			continue
		}
		if p.Example = to.params[p.Name]; p.Example == nil {
			p.Example = object{
				"id": exampleService.Text(), "server": "10.0.0.11:8080", "revision": 1,
			}[p.Name]
		}
	}
}
