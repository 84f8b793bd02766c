package api

import (
	"encoding/gob"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl/config"
)

// Info returns what the director is and does, without NextStart.
func (c *Client) Info() (info Info, err error) { return info, c.get("info", nil, &info) }

// Status is Info with NextStart, for which the director reads its configuration file.
func (c *Client) Status() (info Info, err error) { return info, c.get("status", nil, &info) }

// Services lists the services in order of adding, with the newest server first.
func (c *Client) Services() (list []ServiceStatus, err error) {
	return c.ServicesOf(ServiceFilter{})
}

// ServicesOf lists the services that match a filter.
func (c *Client) ServicesOf(f ServiceFilter) (list []ServiceStatus, err error) {
	err = c.EachService(f, func(s *ServiceStatus) error {
		list = append(list, *s)
		return nil
	})
	return list, err
}

// EachService calls visit for the services that match a filter until visit returns an error. It
// asks for gobs, which take a sixth of the time that JSON takes.
func (c *Client) EachService(f ServiceFilter, visit func(*ServiceStatus) error) error {
	_, err := c.send(http.MethodGet, "services", f.Query(), http.Header{"Accept": {Gob}}, nil, func(r io.Reader) error {
		for dec := gob.NewDecoder(r); ; {
			s := ServiceStatus{ServerStatuses: []ServerStatus{}}
			switch err := dec.Decode(&s); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := visit(&s); err != nil {
				return err
			}
		}
	})
	return err
}

// servicePath returns the path of a service, or of a part of it.
func servicePath(key config.ServiceKey, parts ...string) string {
	return strings.Join(append([]string{"services", url.PathEscape(key.Text())}, parts...), "/")
}

// Service returns one service; without it the error is ESRCH.
func (c *Client) Service(key config.ServiceKey) (s ServiceStatus, err error) {
	return s, c.get(servicePath(key), nil, &s)
}

// PutService adds a service, or makes it what is given. Without a revision it does so whatever
// the service was; revision 0 is that of a service that does not exist.
func (c *Client) PutService(svc config.Service, revision *uint64) (s ServiceStatus, err error) {
	header := http.Header{}
	switch {
	case revision == nil:
	case *revision == 0:
		header.Set("If-None-Match", "*")
	default:
		header.Set("If-Match", ETag(*revision))
	}
	_, err = c.send(http.MethodPut, servicePath(svc.ServiceKey), nil, header, svc, decoder(&s))
	return s, err
}

// Marks returns the mark rules in their order.
func (c *Client) Marks() (list []config.MarkRule, err error) { return list, c.get("marks", nil, &list) }

// AdminRules returns the admin states that are not up.
func (c *Client) AdminRules() (list []config.AdminRule, err error) {
	return list, c.get("admin", nil, &list)
}

// Timeouts returns the three timeouts of `ipvsadm --set`.
func (c *Client) Timeouts() (t config.Timeouts, err error) { return t, c.get("timeouts", nil, &t) }

// Counters returns all counters of the director.
func (c *Client) Counters() (list []Counter, err error) { return list, c.get("counters", nil, &list) }

// Settings lists all settings or, for a service, those that it can have.
func (c *Client) Settings(of *config.ServiceKey) (list []config.Setting, err error) {
	if of != nil {
		return list, c.get(servicePath(*of, "settings"), nil, &list)
	}
	return list, c.get("settings", nil, &list)
}

// Explain returns what the director would do with a packet.
func (c *Client) Explain(p Probe) (e Explanation, err error) {
	return e, c.get("explain", p.Query(), &e)
}

// Flush ends the conns that match a filter, and returns their number.
func (c *Client) Flush(f ConnFilter) (int, error) {
	q := f.Query()
	if len(q) == 0 {
		q.Set("all", "true")
	}
	var n Flushed
	_, err := c.do(http.MethodPost, "conns/flush", q, nil, &n)
	return n.Count, err
}

// Apply makes one change. If it is refused, the error is a *config.Error.
func (c *Client) Apply(op config.Op) error {
	_, err := c.Transact(Transaction{Operations: []config.Op{op}, Whole: true})
	return err
}

// ApplyAll makes up to MaxOps changes one after the other and puts them in force at once.
// It returns the error of each. A change that is refused does not stop the others.
func (c *Client) ApplyAll(ops []config.Op) []error {
	errs := make([]error, len(ops))
	result, err := c.Transact(Transaction{Operations: ops})
	for i := range errs {
		switch {
		case err != nil:
			errs[i] = err
		case i < len(result.Results) && result.Results[i] != nil:
			errs[i] = result.Results[i]
		}
	}
	return errs
}

// Transact makes changes that come into force together.
func (c *Client) Transact(t Transaction) (result TransactionResult, err error) {
	_, err = c.do(http.MethodPost, "transactions", nil, t, &result)
	return result, err
}

// Document returns the configuration that is in force, and its revision.
func (c *Client) Document() (d *config.Document, revision uint64, err error) {
	var text jsontext.Value
	header, err := c.do(http.MethodGet, "config", nil, nil, &text)
	if err != nil {
		return nil, 0, err
	}
	d = new(config.Document)
	if err := config.Decode(text, d); err != nil {
		return nil, 0, err
	}
	revision, err = strconv.ParseUint(strings.Trim(header.Get("ETag"), `"`), 10, 64)
	return d, revision, err
}

// ApplyDocument puts a configuration in force in place of the present one, and returns the
// revision that it has there.
func (c *Client) ApplyDocument(d *config.Document, o ApplyOptions) (revision uint64, err error) {
	header := http.Header{}
	if o.IfRevision != nil {
		header.Set("If-Match", ETag(*o.IfRevision))
	}
	var applied Applied
	_, err = c.send(http.MethodPut, "config", o.query(), header, d, decoder(&applied))
	return applied.Revision, err
}

// Diff returns the operations that would put a configuration in force, and whose connections
// they touch.
func (c *Client) Diff(d *config.Document) (steps []Step, err error) {
	_, err = c.do(http.MethodPost, "config/diff", nil, d, &steps)
	return steps, err
}

// Confirm keeps the change that would take itself back; without one the error is ENOENT.
func (c *Client) Confirm() error {
	_, err := c.do(http.MethodPost, "config/confirm", nil, nil, nil)
	return err
}

// TakeBack takes back the change that waits for Confirm.
func (c *Client) TakeBack() (revision uint64, err error) { return c.restore("config/take-back") }

// Versions lists the configurations that were applied, the newest first.
func (c *Client) Versions() (list []Version, err error) { return list, c.get("versions", nil, &list) }

// Version returns a configuration that was applied; without it the error is ENOENT.
func (c *Client) Version(revision uint64) (*config.Document, error) {
	var text jsontext.Value
	if err := c.get("versions/"+strconv.FormatUint(revision, 10), nil, &text); err != nil {
		return nil, err
	}
	d := new(config.Document)
	return d, config.Decode(text, d)
}

// Rollback puts a version in force again; 0: the one before the newest.
func (c *Client) Rollback(version uint64) (revision uint64, err error) {
	if version == 0 {
		return c.restore("rollback")
	}
	return c.restore("versions/" + strconv.FormatUint(version, 10) + "/rollback")
}

// Reload applies the configuration file again.
func (c *Client) Reload() (r Reloaded, err error) {
	_, err = c.do(http.MethodPost, "reload", nil, nil, &r)
	return r, err
}

func (c *Client) restore(path string) (uint64, error) {
	var applied Applied
	_, err := c.do(http.MethodPost, path, nil, nil, &applied)
	return applied.Revision, err
}

// Log returns what the director logs, and how.
func (c *Client) Log() (l Log, err error) { return l, c.get("log", nil, &l) }

// SetLog changes what the director logs, or how; "" keeps a value.
func (c *Client) SetLog(l Log) error {
	_, err := c.do(http.MethodPut, "log", nil, l, nil)
	return err
}

// Healthy returns an error if the director does not work.
func (c *Client) Healthy() error { return c.get("healthz", nil, new(Health)) }

// Conns calls visit for every conn until visit returns an error.
func (c *Client) Conns(visit func(ConnStatus) error) error {
	return c.ConnsOf(ConnFilter{}, visit)
}

// ConnsOf calls visit for the conns that match a filter until visit returns an error.
func (c *Client) ConnsOf(f ConnFilter, visit func(ConnStatus) error) error {
	err := stream(c, "conns", f.Query(), visit)
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// CountConns counts the conns that match a filter.
func (c *Client) CountConns(f ConnFilter) (n ConnCount, err error) {
	return n, c.get("conns/count", f.Query(), &n)
}

// Events calls visit for each event from now on until visit returns an error.
func (c *Client) Events(visit func(Event) error) error { return c.EventsSince(nil, visit) }

// EventsSince calls visit for each event after a revision, or from now on, until visit returns
// an error. If events that were not seen are no longer kept, the error is EOVERFLOW.
func (c *Client) EventsSince(revision *uint64, visit func(Event) error) error {
	q := url.Values{}
	if revision != nil {
		q.Set("since", strconv.FormatUint(*revision, 10))
	}
	return stream(c, "events", q, func(ev Event) error {
		if ev.Error != nil {
			return ev.Error
		}
		return visit(ev)
	})
}

// stream calls visit for each value of a response until visit returns an error or
// the response ends, which is io.EOF.
func stream[T any](c *Client, path string, q url.Values, visit func(T) error) error {
	_, err := c.send(http.MethodGet, path, q, nil, nil, func(r io.Reader) error {
		for dec := jsontext.NewDecoder(r); ; {
			var v T
			if err := json.UnmarshalDecode(dec, &v); err != nil {
				return err
			}
			if err := visit(v); err != nil {
				return err
			}
		}
	})
	return err
}
