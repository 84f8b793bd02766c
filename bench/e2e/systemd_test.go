package e2e

import "net"

// listenUnixgram opens the socket on which the director reports that it is
// ready.
func listenUnixgram(path string) (*net.UnixConn, error) {
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}
