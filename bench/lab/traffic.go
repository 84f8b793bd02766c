package lab

import (
	"context"
	"net"
	"net/http"
)

// Dial connects from a node. The address must be numeric: looking names up
// happens elsewhere.
func (l *Lab) Dial(ctx context.Context, node, network, address string) (c net.Conn, err error) {
	err = l.Do(node, func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// HTTPClient makes requests from a node, each over a connection of its own.
func (l *Lab) HTTPClient(node string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Dial(ctx, node, network, address)
		},
	}}
}
