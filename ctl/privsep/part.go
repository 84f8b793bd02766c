package privsep

import (
	"net"
	"os"

	"uvs/ctl/guard"
	"uvs/ctl/localnode"
	"uvs/ctl/routes"
	"uvs/dataplane/ring"
)

// Part is what the unprivileged process cannot do itself.
type Part interface {
	routes.Privileged

	// Begin returns what was opened before the director starts.
	Begin() (*Begin, error)
	// Config reads the configuration again.
	Config() ([]byte, error)
	// Certificates reads the API's certificate, its key and the CA of its clients.
	Certificates() ([3][]byte, error)
	// Sockets opens the sockets of all workers on an interface of the director.
	Sockets(i int) ([]ring.Sockets, error)
	// Apply changes the guard.
	Apply(guard.Rules) error
	// Dropped reads the guard's counters.
	Dropped() (guard.Dropped, error)
	// Notify tells the service manager a state (sd_notify(3)).
	Notify(state string) error
}

// Begin is what a director begins with.
type Begin struct {
	Prepared

	// Listener is the API's socket, Remote that for other hosts.
	Listener, Remote net.Listener
	// State is the state directory. It belongs to the unprivileged user.
	State *os.File
}

// Prepared is what Begin says of it.
type Prepared struct {
	// Config is the configuration that the privileged process has read.
	Config []byte
	// PID is the privileged process.
	PID int
	// User and Group are what the unprivileged process becomes; -1: it stays what it is.
	User, Group int
	// LocalNode is the device to the host's stack; nil: there is none.
	LocalNode *localnode.Pair
	// HasRemote and HasState are whether there are a listener for other hosts and a state
	// directory.
	HasRemote, HasState bool
}
