package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

const (
	stranger = 61001 // a user without a name
	grouped  = 61002 // a group without a name
)

// as sends a request by a process of another user, and returns the status; 0: it could not
// connect.
func (f *fixture) as(t *testing.T, uid, gid uint32, groups []uint32, method, path, body string) string {
	t.Helper()
	args := []string{"-s", "-g", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", f.socket, "-X", method}
	if body != "" {
		args = append(args, "-d", body)
	}
	cmd := exec.Command("curl", append(args, "http://uvs"+path)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid, Groups: groups}}
	out, _ := cmd.Output()
	return string(out)
}

// Root and a group may change, and others read if they are allowed to, by what the kernel says
// of the process at the other end.
func TestAccess(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and curl")
	}
	group, manyGroups := "61002", []uint32{grouped}
	for i := range uint32(99) {
		manyGroups = append(manyGroups, 62000+i)
	}
	for _, row := range []struct {
		access                                  Access
		mode                                    os.FileMode
		stranger, member, supplementary, reader string // their status of a GET and a PUT; 000: refused to connect
	}{
		{Access{}, 0o600, "000 000", "000 000", "000 000", "000 000"},
		{Access{Group: group}, 0o660, "000 000", "200 200", "200 200", "000 000"},
		{Access{Group: group, Readers: "all"}, 0o666, "200 403", "200 200", "200 200", "200 403"},
		{Access{Readers: "all"}, 0o666, "200 403", "200 403", "200 403", "200 403"},
		{Access{Readers: "61003"}, 0o660, "000 000", "000 000", "000 000", "200 403"},
		{Access{Group: group, Readers: "61003"}, 0o666, "403 403", "200 200", "200 200", "200 403"},
	} {
		f := newFixture(t, func(s *Server) { s.Access = row.access })
		f.listen(t)
		if info, err := os.Stat(f.socket); err != nil || info.Mode().Perm() != row.mode {
			t.Errorf("%+v: mode %v, %v; want %v", row.access, info.Mode().Perm(), err, row.mode)
		}
		for _, who := range []struct {
			name   string
			gid    uint32
			groups []uint32
			want   string
		}{
			{"a stranger", 61009, nil, row.stranger},
			{"a member", grouped, nil, row.member},
			{"one of many groups", 61009, manyGroups, row.supplementary},
			{"a reader", 61003, nil, row.reader},
		} {
			got := f.as(t, stranger, who.gid, who.groups, "GET", "/v1/services", "") + " " +
				f.as(t, stranger, who.gid, who.groups, "PUT", "/v1/role", `{"role":"active"}`)
			if got != who.want {
				t.Errorf("%+v: %s gets %s, want %s", row.access, who.name, got, who.want)
			}
		}
		if got := f.as(t, 0, 0, nil, "PUT", "/v1/role", `{"role":"active"}`); got != "200" {
			t.Errorf("%+v: root gets %s", row.access, got)
		}
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "s"), Access{Group: "no such group"}); err == nil {
		t.Error("a group that is not there is taken")
	}
}

// What reads is allowed to readers, whatever its method; what changes is not.
func TestReadersChangeNothing(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and curl")
	}
	f := newFixture(t, func(s *Server) { s.Access.Readers = "all" })
	f.must(t, add80(vip))
	f.listen(t)
	names := strings.NewReplacer("{id}", "tcp:10.9.0.1:80", "{server}", "10.2.0.1:80", "{revision}", "1")
	var description struct {
		Paths map[string]map[string]struct {
			ReadsOnly bool `json:"x-reads-only"`
		}
	}
	json.Unmarshal([]byte(f.ask(t, "GET", "/v1/openapi.json", "").text), &description)
	_, before := f.Manager.Document()
	for path, methods := range description.Paths {
		for method, op := range methods {
			if method == "get" {
				continue
			}
			path := names.Replace(path)
			got := f.as(t, stranger, stranger, nil, strings.ToUpper(method), path, "{}")
			if (got != "403") != op.ReadsOnly {
				t.Errorf("%s %s: %s", method, path, got)
			}
		}
	}
	if _, after := f.Manager.Document(); after != before || len(description.Paths) < 20 {
		t.Errorf("revision %d, then %d; %d paths", before, after, len(description.Paths))
	}
}

// A change has its author in events, in versions and in the log, and requests are logged.
func TestAuthor(t *testing.T) {
	lines := make(chan string, 100)
	f := newFixture(t, func(s *Server) { s.Logger = zerolog.New(logLines(lines)) })
	c := f.listen(t)
	watcher, err := f.Manager.Watch(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(add80(vip)); err != nil {
		t.Fatal(err)
	}
	ev, err := watcher.Next(t.Context())
	want := api.Author{User: "root", Process: "rest.test", PID: os.Getpid()}
	if os.Geteuid() == 0 && (err != nil || *ev.Author != want) {
		t.Errorf("author %+v, %v; want %+v", ev.Author, err, want)
	}
	line := <-lines
	want200 := `"method":"POST","path":"/v1/transactions","user":"root","status":200`
	if !strings.Contains(line, want200) {
		t.Errorf("log %s", line)
	}
}

// logLines is a log that can be read line by line.
type logLines chan string

func (l logLines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

// authority is a CA for the test.
type authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64
}

func newAuthority(t *testing.T) *authority {
	a := &authority{dir: t.TempDir()}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	a.write(t, "ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue writes a certificate and its key, and returns their files.
func (a *authority) issue(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	a.n++
	own, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.n), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{{127, 0, 0, 1}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &own.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := x509.MarshalPKCS8PrivateKey(own)
	return a.write(t, name+".pem", "CERTIFICATE", der), a.write(t, name+".key", "PRIVATE KEY", text)
}

// client returns the TLS configuration of a client; name "": one without a certificate.
func (a *authority) client(t *testing.T, name string) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c := &tls.Config{RootCAs: pool}
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.issue(t, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

// Over TCP only clients with a certificate of the CA get in. The names in Admins may change,
// others read. A certificate is read again when its file changes.
func TestTLS(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	f := newFixture(t, func(s *Server) { s.Admins = []string{"operator"} })
	certificate, key := ca.issue(t, "director")
	l, err := listenSecure(config.TLS{
		Address: "127.0.0.1:0", Certificate: certificate, Key: key, ClientCA: filepath.Join(ca.dir, "ca.pem"),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l)
	address := l.Addr().String()
	watcher, _ := f.Manager.Watch(nil)
	if err := api.DialTLS(address, ca.client(t, "operator")).Apply(add80(vip)); err != nil {
		t.Error(err)
	}
	if ev, err := watcher.Next(t.Context()); err != nil || *ev.Author != (api.Author{User: "operator"}) {
		t.Errorf("author %+v, %v", ev.Author, err)
	}
	monitor := api.DialTLS(address, ca.client(t, "monitor"))
	if list, err := monitor.Services(); err != nil || len(list) != 1 {
		t.Errorf("a reader gets %v, %v", list, err)
	}
	if err := monitor.Apply(config.Op{Kind: config.Flush}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("a reader changes: %v", err)
	}
	forged := other.client(t, "operator")
	forged.RootCAs = ca.client(t, "").RootCAs
	old := ca.client(t, "operator")
	old.MaxVersion = tls.VersionTLS12
	for who, c := range map[string]*tls.Config{
		"without a certificate": ca.client(t, ""), "of another CA": forged, "with TLS 1.2": old,
	} {
		if _, err := api.DialTLS(address, c).Services(); err == nil {
			t.Errorf("a client %s gets in", who)
		}
	}
	first := serverName(t, address, ca)
	future := time.Now().Add(time.Minute)
	renewed, renewedKey := ca.issue(t, "director-2")
	os.Rename(renewed, certificate)
	if name := serverName(t, address, ca); name != first { // the key does not fit yet
		t.Errorf("half of a new certificate: %s", name)
	}
	os.Rename(renewedKey, key)
	os.Chtimes(certificate, future, future)
	if name := serverName(t, address, ca); name != "director-2" || first != "director" {
		t.Errorf("certificates of %s, then of %s", first, name)
	}
}

// serverName returns the name in the certificate of a director.
func serverName(t *testing.T, address string, ca *authority) string {
	t.Helper()
	conn, err := tls.Dial("tcp", address, ca.client(t, "monitor"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// listenSecure listens with certificates in files.
func listenSecure(files config.TLS) (net.Listener, error) {
	l, err := ListenTLS(files)
	if err != nil {
		return nil, err
	}
	secure, err := Secure(l, CertificateFiles(files))
	if err != nil {
		l.Close()
	}
	return secure, err
}

// A listener for TLS says which file is wrong.
func TestListenTLSRefuses(t *testing.T) {
	ca := newAuthority(t)
	certificate, key := ca.issue(t, "director")
	for _, files := range []config.TLS{
		{Certificate: "/no/such.pem", Key: key, ClientCA: certificate},
		{Certificate: certificate, Key: certificate, ClientCA: certificate},
		{Certificate: certificate, Key: key, ClientCA: key},
	} {
		files.Address = "127.0.0.1:0"
		if l, err := listenSecure(files); err == nil {
			l.Close()
			t.Errorf("%+v is taken", files)
		} else if !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%+v: %v", files, err)
		}
	}
}

// Connections over the limit are refused, but not those of root.
func TestConnectionLimit(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l)
	c := f.listen(t)
	for range maxConnections {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	last, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if _, err := io.Copy(io.Discard, last); err != nil && !errors.Is(err, syscall.ECONNRESET) { // it was closed
		t.Error(err)
	}
	list, err := c.Counters()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, n := range list {
		counts[n.Name] = n.Value
	}
	if counts["api_connections"] <= maxConnections || counts["api_connections_refused"] == 0 {
		t.Errorf("counters %v", counts)
	}
}
