package rest

import (
	"bufio"
	"encoding/gob"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
)

// serviceList is a list of services whose states are read one by one while they are written. So
// a list of any length holds up changes for the time of one service only, and takes the memory
// of one. Each service is as it is when its turn comes; one that is gone by then is left out.
type serviceList struct {
	manager *ctl.Manager
	keys    []config.ServiceKey
	brief   bool
}

func (l serviceList) each(visit func(*api.ServiceStatus) error) error {
	for _, key := range l.keys {
		if s, err := l.manager.Status(key, l.brief); err == nil {
			if err := visit(&s); err != nil {
				return err
			}
		}
	}
	return nil
}

// writer returns what writes the list in the form that a client accepts.
func (l serviceList) writer(accept string) func(huma.Context) {
	contentType, write := "application/json", l.writeJSON
	if accept == api.Gob {
		contentType, write = accept, l.writeGob
	}
	return stream(contentType, func(_ *http.Request, w io.Writer, _ func() error) {
		buf := bufio.NewWriterSize(w, writePart)
		if write(buf) == nil { // otherwise the client went away
			buf.Flush()
		}
	}).Body
}

func (l serviceList) writeJSON(w *bufio.Writer) error {
	separator := byte('[')
	err := l.each(func(s *api.ServiceStatus) error {
		w.WriteByte(separator)
		separator = ','
		var value any = s
		if l.brief {
			value = newBriefStatus(s)
		}
		_, err := w.Write(api.AppendJSON(w.AvailableBuffer(), value, -1))
		return err
	})
	if separator == '[' {
		w.WriteByte('[')
	}
	w.WriteByte(']')
	return err
}

func (l serviceList) writeGob(w *bufio.Writer) error {
	enc := gob.NewEncoder(w)
	return l.each(func(s *api.ServiceStatus) error { return enc.Encode(s) })
}

// briefStatus is a service whose servers lack what its members hide.
type briefStatus struct {
	*api.ServiceStatus
	Servers []briefServer `json:"servers"`
	Sorry   *briefServer  `json:"sorry,omitzero"`
}

type briefServer struct {
	*api.ServerStatus
	Stats struct{} `json:"stats,omitzero"`
	Path  struct{} `json:"path,omitzero"`
}

func newBriefStatus(s *api.ServiceStatus) *briefStatus {
	b := &briefStatus{ServiceStatus: s, Servers: make([]briefServer, len(s.ServerStatuses))}
	for i := range b.Servers {
		b.Servers[i].ServerStatus = &s.ServerStatuses[i]
	}
	if s.Sorry != nil {
		b.Sorry = &briefServer{ServerStatus: s.Sorry}
	}
	return b
}
