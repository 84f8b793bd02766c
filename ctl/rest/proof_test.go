package rest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// What a TLS client proved once it cannot use when it is over: neither a session of a CA that
// is gone, nor a connection that outlives its certificate.
func TestTLSIsProvedAgain(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	f := newFixture(t)
	certificate, key := ca.issue(t, "director")
	file := filepath.Join(ca.dir, "clients.pem")
	write := func(from *authority, modified time.Time) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(from.dir, "ca.pem"))
		if err := cmp.Or(err, os.WriteFile(file, text, 0o600), os.Chtimes(file, modified, modified)); err != nil {
			t.Fatal(err)
		}
	}
	write(ca, time.Now())
	l, err := listenSecure(config.TLS{Address: "127.0.0.1:0", Certificate: certificate, Key: key, ClientCA: file})
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l)
	c := ca.client(t, "monitor")
	c.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	if _, err := api.DialTLS(l.Addr().String(), c).Services(); err != nil {
		t.Fatal(err)
	}
	write(other, time.Now().Add(time.Minute))
	if _, err := api.DialTLS(l.Addr().String(), c).Services(); err == nil {
		t.Error("a session of the CA before goes on")
	}

	expires := func(at time.Time) *tls.ConnectionState {
		return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{
			{Subject: pkix.Name{CommonName: "operator"}, NotAfter: at},
		}}
	}
	admins := []string{"operator"}
	if p := remotePeer(expires(time.Now().Add(time.Hour)), admins); !p.reads || !p.changes {
		t.Error("a certificate is not taken")
	}
	if p := remotePeer(expires(time.Now().Add(-time.Second)), admins); p.reads || p.changes {
		t.Error("a certificate that has expired is taken")
	}
	if p := remotePeer(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}, []string{""}); p.changes {
		t.Error("a certificate without a name changes")
	}
}

// Readers preview one configuration after the other, because each takes much memory. That does
// not concern other requests, nor those who may change.
func TestOnePreview(t *testing.T) {
	f := newFixture(t, func(s *Server) { s.Access.Readers = "all" })
	f.listen(t)
	f.previews.Lock()
	preview := func() *http.Request {
		return httptest.NewRequest("POST", "/v1/config/diff", strings.NewReader(`{"services":[]}`))
	}
	by := func(p *peer, r *http.Request) int {
		w := httptest.NewRecorder()
		f.handler().ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, p)))
		return w.Code
	}
	reader := &peer{remote: true, name: "monitor", reads: true}
	done := make(chan int)
	go func() { done <- by(reader, preview()) }()
	if code := by(&peer{remote: true, reads: true, changes: true}, preview()); code != http.StatusOK {
		t.Errorf("one who may change gets %d", code)
	}
	if code := by(reader, httptest.NewRequest("GET", "/v1/services", nil)); code != http.StatusOK {
		t.Errorf("a listing gets %d", code)
	}
	select {
	case code := <-done:
		t.Errorf("a reader does not wait: %d", code)
	default:
	}
	f.previews.Unlock()
	if code := <-done; code != http.StatusOK {
		t.Errorf("a reader gets %d", code)
	}
}

// A page of another host cannot use the certificate of the browser that shows it.
func TestOtherOrigin(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	for _, header := range []string{"Origin: https://other.example", "Sec-Fetch-Site: cross-site"} {
		f.ask(t, "PUT", "/v1/role", `{"role":"standby"}`, header).want(t, http.StatusForbidden, "cross-origin")
		f.ask(t, "GET", "/v1/role", "", header).want(t, http.StatusOK, "active")
	}
}

// What a client says of a change cannot reach a terminal as its escapes.
func TestEscapes(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	f.ask(t, "PUT", "/v1/config?how=apply%1b%5d0;x%07%0anext", `{"services":[]}`).want(t, http.StatusOK)
	versions := f.Manager.Versions()
	if versions[0].How != "apply?]0;x??next" || strings.ContainsAny(versions[0].Author, "\x1b\n") {
		t.Errorf("versions %+v", versions)
	}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{CommonName: "a\x1bb\xff"}}}}
	if p := remotePeer(&state, nil); p.name != "a?b?" {
		t.Errorf("name %q", p.name)
	}
}
