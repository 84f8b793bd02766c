package rest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/go-json-experiment/json"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

type watchEvents struct {
	Since  string `query:"since" doc:"only events after this revision; 410 if they are no longer kept"`
	LastID string `header:"Last-Event-ID" doc:"as since; browsers send it when they resume"`
	Accept string `header:"Accept" doc:"text/event-stream: Server-Sent Events, whose id is the revision"`
}

const eventStream = "text/event-stream"

func (r *router) eventRoutes(tag string) {
	add(r, route{
		method: "GET", path: "/v1/events", tag: tag, id: "watch-events",
		summary: "watch changes as they happen; a stream that cannot go on ends with an event of kind error",
		errors:  []int{410}, stream: api.Event{},
	}, r.watchEvents)
}

func (r *router) watchEvents(_ context.Context, in *watchEvents) (*huma.StreamResponse, error) {
	var since *uint64
	if text := in.Since + in.LastID; text != "" {
		if in.Since != "" {
			text = in.Since
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, config.Errorf(syscall.EINVAL, "since %q is no revision", text)
		}
		since = &n
	}
	watcher, err := r.Manager.Watch(since)
	if err != nil {
		return nil, err
	}
	if strings.Contains(in.Accept, eventStream) {
		return stream(eventStream, func(req *http.Request, w io.Writer, flush func() error) {
			sendEvents(req.Context(), watcher, flush, func(ev *api.Event, text []byte) error {
				_, err := fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", ev.Revision, ev.Kind, text)
				return err
			})
		}), nil
	}
	return stream(lines, func(req *http.Request, w io.Writer, flush func() error) {
		sendEvents(req.Context(), watcher, flush, func(_ *api.Event, text []byte) error {
			_, err := w.Write(append(text, '\n'))
			return err
		})
	}), nil
}

// sendEvents sends events until the client goes away or lags too far behind.
func sendEvents(
	ctx context.Context, watcher *ctl.Watcher, flush func() error, send func(*api.Event, []byte) error,
) {
	for flush() == nil {
		ev, err := watcher.Next(ctx)
		if refused, ok := errors.AsType[*config.Error](err); ok {
			ev = api.Event{Kind: "error", Error: refused}
		} else if err != nil {
			return
		}
		text, _ := json.Marshal(ev)
		if send(&ev, text) != nil || err != nil {
			return
		}
	}
}

// lines is the content type of JSON with one object a line.
const lines = "application/x-ndjson"

// stream is a response that is written bit by bit. A client that does not read it only blocks
// the goroutine of its own request.
func stream(contentType string, write func(*http.Request, io.Writer, func() error)) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(ctx huma.Context) {
		req, w := humago.Unwrap(ctx)
		w.Header().Set("Content-Type", contentType)
		write(req, w, http.NewResponseController(w).Flush)
	}}
}

// FilterConns is the input of a route about connections.
type FilterConns struct {
	Service string `query:"service" doc:"only of this service"`
	Server  string `query:"server" doc:"only to this server: ADDRESS or ADDRESS:PORT"`
	Client  string `query:"client" doc:"only from this address or net"`
	State   string `query:"state" doc:"only in this state, such as ESTABLISHED"`
}

func (in *FilterConns) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"service": in.Service, "server": in.Server, "client": in.Client, "state": in.State,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}

type flushConns struct {
	FilterConns
	All bool `query:"all" doc:"end all connections"`
}

type explain struct {
	Proto       protocol       `query:"proto" required:"true" doc:"protocol of the packet"`
	Client      netip.AddrPort `query:"client" required:"true" doc:"where it comes from"`
	Virtual     netip.AddrPort `query:"virtual" required:"true" doc:"where it goes to"`
	InInterface string         `query:"in-interface" doc:"where it comes in, if not by the route to the client"`
}

func (r *router) connRoutes() {
	const tag = "connections"
	add(r, route{
		method: "GET", path: "/v1/conns", tag: tag, id: "list-conns",
		summary: "list connections and templates, one a line", stream: api.ConnStatus{},
	}, r.conns)
	add(r, route{
		method: "GET", path: "/v1/conns/count", tag: tag, id: "count-conns", summary: "count connections",
	}, func(_ context.Context, in *FilterConns) (*result[api.ConnCount], error) {
		filter, err := api.ParseConnFilter(in.query())
		if err != nil {
			return nil, err
		}
		return resultOf(r.Manager.CountConns(filter), nil)
	})
	add(r, route{
		method: "POST", path: "/v1/conns/flush", tag: tag, id: "flush-conns", summary: "end connections",
		params: object{"all": true},
	}, r.flushConns)
	add(r, route{
		method: "GET", path: "/v1/explain", tag: tag, id: "explain",
		summary: "what would the director do with a packet, and why?",
		params: object{
			"proto": "tcp", "client": "198.51.100.7:4711", "virtual": exampleService.Text()[len("tcp:"):],
		},
	}, func(_ context.Context, in *explain) (*result[*api.Explanation], error) {
		probe := api.Probe{
			Proto: in.Proto.Proto, Client: in.Client, Virtual: in.Virtual, InInterface: in.InInterface,
		}
		probe, err := api.ParseProbe(probe.Query())
		if err != nil {
			return nil, err
		}
		return resultOf(r.Manager.Explain(probe))
	})
}

func (r *router) conns(_ context.Context, in *FilterConns) (*huma.StreamResponse, error) {
	filter, err := api.ParseConnFilter(in.query())
	if err != nil {
		return nil, err
	}
	return stream(lines, func(_ *http.Request, w io.Writer, _ func() error) {
		buf := bufio.NewWriter(w)
		err := r.Manager.Conns(filter, func(c api.ConnStatus) error {
			if err := json.MarshalWrite(buf, c); err != nil {
				return err
			}
			return buf.WriteByte('\n')
		})
		if err == nil {
			buf.Flush()
		}
	}), nil
}

// flushConns refuses an empty filter; only all means all connections.
func (r *router) flushConns(_ context.Context, in *flushConns) (*result[api.Flushed], error) {
	q := in.query()
	filter, err := api.ParseConnFilter(q)
	if err == nil && in.All == (len(q) > 0) {
		err = config.Errorf(syscall.EINVAL,
			"say which connections to end: by service, server, client or state, or all of them")
	}
	if err != nil {
		return nil, err
	}
	return resultOf(api.Flushed{Count: r.Manager.FlushConns(filter)}, nil)
}
