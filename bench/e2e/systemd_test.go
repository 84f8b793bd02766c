package e2e

import "net"

// listenUnixgram is the socket on which the director announces that it is ready.
func listenUnixgram(path string) (*net.UnixConn, error) {
	return net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
}
