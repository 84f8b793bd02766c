package rest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"uvs/ctl/config"
)

// ListenTLS binds a TCP port for clients with a certificate. It reads files again when they change.
func ListenTLS(t config.TLS) (net.Listener, error) {
	files := &certificateFiles{TLS: t}
	if _, err := files.config(nil); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", t.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for the API on %s: %w", t.Address, err)
	}
	return &secureListener{l, files}, nil
}

// secureListener is a TCP listener whose connections are to be encrypted.
type secureListener struct {
	net.Listener
	files *certificateFiles
}

// over encrypts what another listener accepts.
func (l *secureListener) over(other net.Listener) net.Listener {
	return tls.NewListener(other, &tls.Config{
		MinVersion: tls.VersionTLS13, GetConfigForClient: l.files.config,
		SessionTicketsDisabled: true, // a ticket would outlive the CA that let its client in
	})
}

// certificateFiles has what was in the files when they changed last.
type certificateFiles struct {
	config.TLS
	mu       sync.Mutex
	read     *tls.Config
	modified []time.Time
}

// config returns what the files say. If they are wrong, that is what they said before.
func (f *certificateFiles) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var modified []time.Time
	for _, path := range []string{f.Certificate, f.Key, f.ClientCA} {
		info, err := os.Stat(path)
		if err != nil {
			return f.before(err)
		}
		modified = append(modified, info.ModTime())
	}
	if f.read != nil && slices.EqualFunc(modified, f.modified, time.Time.Equal) {
		return f.read, nil
	}
	certificate, err := tls.LoadX509KeyPair(f.Certificate, f.Key)
	if err != nil {
		return f.before(err)
	}
	text, err := os.ReadFile(f.ClientCA)
	if err != nil {
		return f.before(err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return f.before(fmt.Errorf("%s has no certificate of a CA", f.ClientCA))
	}
	f.modified = modified
	f.read = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"http/1.1"},
		SessionTicketsDisabled: true,
	}
	return f.read, nil
}

func (f *certificateFiles) before(err error) (*tls.Config, error) {
	if f.read != nil {
		return f.read, nil
	}
	return nil, fmt.Errorf("the API's certificates: %w", err)
}
