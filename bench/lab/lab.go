// Package lab builds a whole LVS on one machine: clients, a director, real
// servers, and for some layouts a router. Each is in its own network namespace.
// veth links join them to bridges in one more namespace.
//
// It uses netlink only, so nothing has to be installed. The namespaces have
// names below /run/netns, where `ip netns exec` finds them. Besides those, a
// lab has one directory in Dir. A lab outlives the process that made it. Remove
// finds all of it by its name, and its processes by their namespaces, so no
// record has to be kept.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netns"
)

// Dir holds a directory for every lab: its plan, its director's socket, and the
// output of its processes.
const Dir = "/run/uvs/lab"

// netnsDir is where iproute2 keeps named network namespaces.
const netnsDir = "/run/netns"

// Lab is a lab that is up. Its methods may be called from several goroutines.
// Call Close last.
type Lab struct {
	Plan
}

// New makes the namespaces, links, addresses and routes of a plan, but starts
// no program. If it fails, it leaves nothing behind.
func New(p Plan) (*Lab, error) {
	p, err := p.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make lab %s: %w", p.Name, err)
	}
	l := &Lab{p}
	if err := os.Mkdir(l.dir(), 0o755); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("lab %s is up already (uvs lab down %s removes it)", p.Name, p.Name)
	} else if err != nil {
		return nil, fmt.Errorf("make lab %s: %w", p.Name, err)
	}
	err = l.savePlan()
	if err == nil {
		err = l.build()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make lab %s: %w", p.Name, err), l.Close())
	}
	return l, nil
}

// Open returns a lab that another process made.
func Open(name string) (*Lab, error) {
	var l Lab
	text, err := os.ReadFile(filepath.Join(Dir, name, "plan.json"))
	if errors.Is(err, fs.ErrNotExist) || !validName.MatchString(name) {
		return nil, fmt.Errorf("no lab %q is up", name)
	}
	if err == nil {
		err = json.Unmarshal(text, &l.Plan)
	}
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", name, err)
	}
	return &l, nil
}

// List returns the names of all labs, also of incomplete ones.
func List() ([]string, error) {
	var names []string
	dirs, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	for _, d := range dirs {
		if d.IsDir() {
			names = append(names, d.Name())
		}
	}
	spaces, _ := filepath.Glob(filepath.Join(netnsDir, "uvs-*-*"))
	for _, path := range spaces {
		parts := strings.Split(filepath.Base(path), "-")
		if len(parts) == 3 && validName.MatchString(parts[1]) {
			names = append(names, parts[1])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Close stops every process in the lab and removes the lab.
func (l *Lab) Close() error { return Remove(l.Name) }

// Remove stops every process in the namespaces of the named lab, and removes
// the namespaces and then the lab's directory. It takes a lab in any state:
// complete, half made, half removed or absent.
func Remove(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("remove lab: name is %q; want 1 to 16 letters and digits", name)
	}
	l := &Lab{Plan{Name: name}}
	spaces, err := filepath.Glob(l.netnsPath("*"))
	if err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	errs := []error{stopProcesses(spaces, stopTimeout)}
	for _, path := range spaces {
		errs = append(errs, removeNetns(path))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	if err := os.RemoveAll(l.dir()); err != nil {
		return fmt.Errorf("remove lab %s: %w", name, err)
	}
	os.Remove(Dir) // this and the directory above, if they are empty
	os.Remove(filepath.Dir(Dir))
	return nil
}

// removeNetns removes a namespace's name. The kernel removes the namespace
// itself, with its links, when no process is left in it.
func removeNetns(path string) error {
	// EINVAL: nothing is mounted on the file, because the lab is incomplete.
	if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return os.Remove(path)
}

// Nodes returns the names of the lab's nodes, the switch first.
func (l *Lab) Nodes() []string { return l.layout().nodes }

// ClientNodes and ServerNodes return the names of the clients and the servers.
func (l *Lab) ClientNodes() []string { return names(l.Clients, clientName) }
func (l *Lab) ServerNodes() []string { return names(l.Servers, serverName) }

func names(n int, name func(int) string) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = name(i)
	}
	return list
}

// Socket returns the path of the director's socket.
func (l *Lab) Socket() string { return filepath.Join(l.dir(), "uvs.sock") }

// LogPath returns the path of the file with the output of programs started on a
// node.
func (l *Lab) LogPath(node string) string { return filepath.Join(l.dir(), node+".log") }

func (l *Lab) dir() string { return filepath.Join(Dir, l.Name) }

func (l *Lab) netnsPath(node string) string {
	return filepath.Join(netnsDir, netnsName(l.Name, node))
}

func netnsName(lab, node string) string { return fmt.Sprintf("uvs-%s-%s", lab, node) }

// savePlan writes plan.json, whole or not at all.
func (l *Lab) savePlan() error {
	text, err := json.MarshalIndent(l.Plan, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(l.dir(), "plan.json")
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// openNetns opens a node's namespace.
func (l *Lab) openNetns(node string) (netns.NsHandle, error) {
	ns, err := netns.GetFromPath(l.netnsPath(node))
	if errors.Is(err, fs.ErrNotExist) {
		return ns, fmt.Errorf("lab %s has no node %q; it has %s", l.Name, node, strings.Join(l.Nodes(), ", "))
	}
	return ns, err
}
