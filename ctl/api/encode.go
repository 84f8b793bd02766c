package api

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"uvs/ctl/config"
)

// ServiceList are services that are written as JSON without reflection for each server: a
// listing may have tens of thousands.
type ServiceList struct {
	Services []ServiceStatus
	Brief    bool // see ServiceFilter.Brief
}

// AppendJSON appends the list as JSON.
func (l *ServiceList) AppendJSON(b []byte) ([]byte, error) {
	size := 2 // a guess that saves most of the copies
	for i := range l.Services {
		size += 512 + len(l.Services[i].ServerStatuses)*map[bool]int{false: 420, true: 160}[l.Brief]
	}
	b = append(slices.Grow(b, size), '[')
	for i, s := range l.Services {
		if i > 0 {
			b = append(b, ',')
		}
		servers := s.ServerStatuses
		s.ServerStatuses = nil
		text, err := json.Marshal(s)
		if err != nil {
			return b, err
		}
		before, after, _ := bytes.Cut(text, []byte(`"servers":[]`))
		b = append(append(b, before...), `"servers":[`...)
		for j := range servers {
			if j > 0 {
				b = append(b, ',')
			}
			if b, err = servers[j].append(b, l.Brief); err != nil {
				return b, err
			}
		}
		b = append(append(b, ']'), after...)
	}
	return append(b, ']'), nil
}

// append appends the server as JSON.
func (s *ServerStatus) append(b []byte, brief bool) ([]byte, error) {
	b = appendAddr(append(b, `{"address":`...), s.Addr)
	b = appendUint(b, "port", uint64(s.Port))
	b = appendText(b, "method", s.Method.String())
	b = strconv.AppendInt(append(b, `,"weight":`...), int64(s.Weight), 10)
	if s.Upper != 0 {
		b = appendUint(b, "upper_threshold", uint64(s.Upper))
	}
	if s.Lower != 0 {
		b = appendUint(b, "lower_threshold", uint64(s.Lower))
	}
	if s.Tunnel != (config.Tunnel{}) {
		text, err := json.Marshal(s.Tunnel)
		if err != nil {
			return b, err
		}
		b = append(append(b, `,"tunnel":`...), text...)
	}
	b = appendText(b, "admin", s.Admin.String())
	b = appendUint(b, "active", uint64(s.Active))
	b = appendUint(b, "inactive", uint64(s.Inactive))
	b = appendUint(b, "persist_conns", uint64(s.Persist))
	if brief {
		return append(appendText(b, "state", s.State), '}'), nil
	}
	b = s.Stats.append(append(b, `,"stats":{`...))
	b = appendText(b, "state", s.State)
	if s.NextHop != "" {
		b = appendText(b, "hop", s.NextHop)
	}
	b = s.Path.append(append(b, `,"path":{`...))
	return append(b, '}'), nil
}

func (s *Stats) append(b []byte) []byte {
	b = strconv.AppendUint(append(b, `"conns":`...), s.Conns, 10)
	b = appendUint(b, "in_pkts", s.InPkts)
	b = appendUint(b, "out_pkts", s.OutPkts)
	b = appendUint(b, "in_bytes", s.InBytes)
	b = appendUint(b, "out_bytes", s.OutBytes)
	b = appendUint(b, "cps", s.CPS)
	b = appendUint(b, "in_pps", s.InPPS)
	b = appendUint(b, "out_pps", s.OutPPS)
	b = appendUint(b, "in_bps", s.InBPS)
	b = appendUint(b, "out_bps", s.OutBPS)
	return append(b, '}')
}

func (s *PathStatus) append(b []byte) []byte {
	begin := len(b)
	if s.Interface != "" {
		b = appendText(b, "interface", s.Interface)
	}
	if s.MTU != 0 {
		b = appendUint(b, "mtu", uint64(s.MTU))
	}
	if s.Learned != 0 {
		b = appendUint(b, "learned", uint64(s.Learned))
	}
	if s.By.IsValid() {
		b = appendAddr(append(b, `,"by":`...), s.By)
	}
	if s.Seconds != 0 {
		b = strconv.AppendInt(append(b, `,"seconds":`...), int64(s.Seconds), 10)
	}
	b = appendUint(b, "too_big", s.TooBig)
	b = appendUint(b, "split", s.Split)
	return append(slices.Delete(b, begin, begin+1), '}') // without the first comma
}

func appendUint(b []byte, name string, value uint64) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	return strconv.AppendUint(b, value, 10)
}

func appendText(b []byte, name, value string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	b, _ = jsontext.AppendQuote(b, value) // what is no UTF-8 becomes U+FFFD
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte { return append(a.AppendTo(append(b, '"')), '"') }
