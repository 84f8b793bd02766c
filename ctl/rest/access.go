package rest

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// Access is who may use the API, besides root and the director's own user, who may all.
type Access struct {
	// Group is the group whose members may change; "": none.
	Group string
	// Readers are who may only read: "all" or a group; "": no others.
	Readers string
}

// anyone is a group that everyone is in.
const anyone = -2

// permissions are an Access with the numbers of groups; -1: none.
type permissions struct{ changers, readers int }

func (a Access) resolve() (p permissions, err error) {
	if p.changers, err = groupID(a.Group); err != nil {
		return p, err
	}
	if a.Readers == "all" {
		p.readers = anyone
		return p, nil
	}
	p.readers, err = groupID(a.Readers)
	return p, err
}

// groupID returns the number of a group by its name or number; -1 for "".
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, fmt.Errorf("there is no group %q; see /etc/group", name)
	}
	return strconv.Atoi(g.Gid)
}

// socketMode returns the mode of the socket, and its group; -1: the director's own. Its group
// cannot be that of two, so everyone may connect if two groups may read.
func (p permissions) socketMode() (fs.FileMode, int) {
	switch {
	case p.readers == anyone, p.readers >= 0 && p.changers >= 0 && p.readers != p.changers:
		return 0o666, p.changers
	case p.changers >= 0, p.readers >= 0:
		return 0o660, max(p.changers, p.readers)
	}
	return 0o600, -1
}

// peer is who sent a request, as the kernel or a certificate names them.
type peer struct {
	uid     uint32
	groups  []uint32
	pid     int32
	remote  bool   // known by a certificate
	name    string // of the certificate
	changes bool
	reads   bool
	trusted bool // root, or the director's own user
}

// startedBy is the user who started the director. The process may get another user later.
var startedBy = uint32(os.Geteuid())

// localPeer returns the process at the other end of a unix socket as it was when it connected.
func localPeer(conn net.Conn, allowed permissions) (*peer, error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	p := new(peer)
	failed := raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err != nil {
			return
		}
		p.uid, p.pid = cred.Uid, cred.Pid
		p.groups, err = peerGroups(int(fd))
		p.groups = append(p.groups, cred.Gid)
	})
	if err := cmp.Or(failed, err); err != nil {
		return nil, fmt.Errorf("ask who is at the other end of the socket: %w", err)
	}
	p.trusted = p.uid == 0 || p.uid == startedBy
	p.changes = p.trusted || p.in(allowed.changers)
	p.reads = p.changes || p.in(allowed.readers)
	return p, nil
}

func (p *peer) in(group int) bool {
	return group == anyone || group >= 0 && slices.Contains(p.groups, uint32(group))
}

// remotePeer returns the owner of a certificate, which may have expired since the connection began.
func remotePeer(state *tls.ConnectionState, admins []string) *peer {
	certificate := state.PeerCertificates[0]
	p := &peer{remote: true, name: valid(certificate.Subject.CommonName)}
	p.reads = time.Now().Before(certificate.NotAfter)
	p.changes = p.reads && p.name != "" && slices.Contains(admins, certificate.Subject.CommonName)
	return p
}

// String returns the peer's name.
func (p *peer) String() string {
	if p.remote {
		return p.name
	}
	uid := strconv.FormatUint(uint64(p.uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// author returns the peer as one who makes a change.
func (p *peer) author() api.Author {
	if p.remote {
		return api.Author{User: p.name}
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid))
	if err != nil {
		name = []byte("?")
	}
	return api.Author{User: p.String(), Process: valid(strings.TrimSpace(string(name))), PID: int(p.pid)}
}

// valid returns a text without what is no UTF-8 or not to be printed, such as escapes of
// terminals, because the text will be kept and listed.
func valid(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}

type peerKey struct{}

// peerOf returns who sent the request of a context.
func peerOf(ctx context.Context) *peer {
	p, _ := ctx.Value(peerKey{}).(*peer)
	return p
}

// mayRead refuses a request of a peer who may not even read.
func (p *peer) mayRead() error {
	if p == nil || !p.reads {
		return config.Errorf(syscall.EPERM,
			"you may not use this director; root may, and members of the groups in options group and readers")
	}
	return nil
}

// mayChange refuses a request of a peer who may only read.
func (p *peer) mayChange() error {
	if !p.changes {
		return config.Errorf(syscall.EPERM,
			"%s may read, but not change; root may, members of the group in option group, and TLS clients in admins", p)
	}
	return nil
}

// withPeer puts who sent a request into its context.
func withPeer(r *http.Request, admins []string) *http.Request {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), peerKey{}, remotePeer(r.TLS, admins)))
}
