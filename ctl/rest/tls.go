package rest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"uvs/ctl/config"
)

// Certificates reads the API's certificate with those between it and its CA, its key, and the CA
// of the clients, all in PEM.
type Certificates func() ([3][]byte, error)

// CertificateFiles reads the files.
func CertificateFiles(t config.TLS) Certificates {
	return func() (texts [3][]byte, err error) {
		for i, path := range []string{t.Certificate, t.Key, t.ClientCA} {
			if texts[i], err = os.ReadFile(path); err != nil {
				return texts, err
			}
		}
		return texts, nil
	}
}

// ListenTLS binds a TCP port for clients with a certificate.
func ListenTLS(t config.TLS) (net.Listener, error) {
	l, err := net.Listen("tcp", t.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for the API on %s: %w", t.Address, err)
	}
	return l, nil
}

// Secure makes what a TCP listener accepts encrypted. It reads the certificates for every client.
func Secure(l net.Listener, read Certificates) (net.Listener, error) {
	certificates := &certificates{read: read}
	if _, err := certificates.config(nil); err != nil {
		return nil, err
	}
	return &secureListener{l, certificates}, nil
}

// secureListener is a TCP listener whose connections are to be encrypted.
type secureListener struct {
	net.Listener
	certificates *certificates
}

// over encrypts what another listener accepts.
func (l *secureListener) over(other net.Listener) net.Listener {
	return tls.NewListener(other, &tls.Config{
		MinVersion: tls.VersionTLS13, GetConfigForClient: l.certificates.config,
		SessionTicketsDisabled: true, // a ticket would outlive the CA that let its client in
	})
}

// certificates has the texts that were right last, and what they say.
type certificates struct {
	read  Certificates
	mu    sync.Mutex
	texts [3][]byte
	valid *tls.Config
}

// config returns what the texts say. If they are wrong, that is what they said before.
func (c *certificates) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	texts, err := c.read()
	if err != nil {
		return c.before(err)
	}
	if c.valid != nil && slices.EqualFunc(texts[:], c.texts[:], bytes.Equal) {
		return c.valid, nil
	}
	certificate, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return c.before(err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(texts[2]) {
		return c.before(errors.New("client_ca has no certificate of a CA"))
	}
	c.texts = texts
	c.valid = &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, NextProtos: []string{"http/1.1"},
		SessionTicketsDisabled: true,
	}
	return c.valid, nil
}

func (c *certificates) before(err error) (*tls.Config, error) {
	if c.valid != nil {
		return c.valid, nil
	}
	return nil, fmt.Errorf("the API's certificates: %w", err)
}
