package config

import (
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"uvs/conntrack"
)

// Run has the options of `uvs run`. Those of the command line win.
type Run struct {
	// Interfaces are those the director runs on.
	Interfaces []string `json:"interfaces,omitempty"`
	// VLANs are those of the interfaces that have no device: IF.NUMBER[=ADDR/BITS,...].
	VLANs []string `json:"vlans,omitempty"`
	// Socket is the path of the socket for commands: /run/uvs/uvs.sock unless given.
	Socket string `json:"socket,omitzero"`
	// Workers is the number of workers that process frames, each on its own CPU. By default it is
	// half the CPUs: the kernel fills the rings on the others, and the host has its own work.
	Workers int `json:"workers"`
	// Pin is whether each worker stays on its own CPU.
	Pin bool `json:"pin"`
	// ConnMax is the most entries of the connection table.
	ConnMax int `json:"conn_max"`
	// MemoryBytes is the most bytes of the connection table; 0: what its entries need.
	MemoryBytes int64 `json:"memory_bytes,omitzero"`
	// Spin is how long an idle worker looks for frames before it sleeps.
	Spin Duration `json:"spin"`
	// LocalNode lets the host itself be a server.
	LocalNode bool `json:"localnode,omitzero"`
	// Standby is whether the director starts on standby.
	Standby bool `json:"standby,omitzero"`
	// State is the directory that keeps what commands change. Without it they end with the director.
	State string `json:"state,omitzero"`
	// StartFrom is what the director starts with if it has both a file and a state: newest is the
	// file if it has changed since it was applied, or else the state.
	StartFrom StartFrom `json:"start_from"`
	// Sandbox is whether all but a small part of the director runs in a process of another user,
	// without capabilities.
	Sandbox bool `json:"sandbox"`
	// User is that user: an account. Without it, it is the account uvs, or user 64738.
	User string `json:"user,omitzero"`
	// LogLevel is the least level that is logged.
	LogLevel LogLevel `json:"log_level"`
	// LogFormat is the form of the log.
	LogFormat LogFormat `json:"log_format"`
	// Group is the group whose members may change what runs, besides root.
	Group string `json:"group,omitzero"`
	// Readers is who else may list what runs: a group, or "all".
	Readers string `json:"readers,omitzero"`
	// TLS is the API for other hosts. Without it there is none.
	TLS *TLS `json:"tls,omitzero"`
}

// TLS is how other hosts reach the API: by TLS 1.3, with a certificate of their own.
type TLS struct {
	// Address is where the director listens, as 192.0.2.1:8443 or :8443.
	Address string `json:"address"`
	// Certificate is a file in PEM with the director's certificate, and those between it and its CA.
	Certificate string `json:"certificate"`
	// Key is a file in PEM with the certificate's key.
	Key string `json:"key"`
	// ClientCA is a file in PEM of the authority whose certificates clients have.
	ClientCA string `json:"client_ca"`
	// Admins are the common names of clients that may change what runs. Others read.
	Admins []string `json:"admins,omitempty"`
}

// DefaultRun returns the options that are not given.
func DefaultRun() Run {
	return Run{
		Workers: min(max(1, runtime.NumCPU()/2), maxWorkers()), Pin: true, Sandbox: true, ConnMax: 1 << 20,
		Spin: Duration(50 * time.Microsecond), LogLevel: "info", LogFormat: LogText,
	}
}

// maxWorkers returns one worker for every CPU, up to the connection table's limit.
func maxWorkers() int { return min(runtime.NumCPU(), conntrack.MaxWorkers) }

// Check refuses options that no director can have. Whether there are such interfaces, groups
// and files shows when it starts.
func (r *Run) Check() error {
	switch most := maxWorkers(); {
	case r.LocalNode && len(r.VLANs) > 0:
		return fieldErrorf("localnode", syscall.EINVAL,
			"localnode and VLAN %s do not go together; make the VLAN a device of the host", r.VLANs[0])
	case r.Workers < 1 || r.Workers > most:
		return fieldErrorf("workers", syscall.EINVAL, "workers %d: must be 1 to %d: one for every CPU, at most %d",
			r.Workers, most, conntrack.MaxWorkers)
	case r.ConnMax < 1024 || r.ConnMax > 1<<28:
		return fieldErrorf("conn_max", syscall.EINVAL, "conn-max %d: must be 1024 to %d", r.ConnMax, 1<<28)
	case r.Spin < 0 || r.Spin > Duration(time.Second):
		return fieldErrorf("spin", syscall.EINVAL, "spin %s: must be 0s to 1s", r.Spin)
	case r.MemoryBytes < 0:
		return fieldErrorf("memory_bytes", syscall.EINVAL, "memory %d: must be a number of bytes", r.MemoryBytes)
	case slices.Contains(r.Interfaces, ""):
		return fieldErrorf("interfaces", syscall.EINVAL, "interface \"\": empty value")
	}
	return nil
}

// StartFrom is which of a file and a kept state a director starts with.
type StartFrom uint8

// What a director starts with.
const (
	StartFromNewest StartFrom = iota // the file if it is another than the one applied last
	StartFromFile
	StartFromState
)

// StartFromNames are the words for StartFrom.
var StartFromNames = []string{StartFromNewest: "newest", StartFromFile: "file", StartFromState: "state"}

func (s StartFrom) String() string { return StartFromNames[s] }

// MarshalText returns the name.
func (s StartFrom) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses a name.
func (s *StartFrom) UnmarshalText(name []byte) error {
	i, err := indexOf("start_from", StartFromNames, name)
	*s = StartFrom(i)
	return err
}

// Duration is written with its unit: 50us, 10ms, 1s.
type Duration time.Duration

func (d Duration) String() string { return strings.ReplaceAll(time.Duration(d).String(), "µ", "u") }

// MarshalText returns the duration with its unit.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return Errorf(syscall.EINVAL, "%s is not a time with its unit, such as 50us or 1s", text)
	}
	*d = Duration(parsed)
	return nil
}

// LogLevel is the least level that is logged.
type LogLevel string

// LogLevels are the levels, the most detailed first.
var LogLevels = []string{"trace", "debug", "info", "warn", "error"}

// UnmarshalText parses a level.
func (l *LogLevel) UnmarshalText(name []byte) error {
	_, err := indexOf("log level", LogLevels, name)
	*l = LogLevel(name)
	return err
}

// LogFormat is the form of the log.
type LogFormat string

// The forms of the log: lines for people, JSON, and the host's syslog.
const (
	LogText   LogFormat = "text"
	LogJSON   LogFormat = "json"
	LogSyslog LogFormat = "syslog"
)

// LogFormats are the forms.
var LogFormats = []string{string(LogText), string(LogJSON), string(LogSyslog)}

// UnmarshalText parses a form.
func (f *LogFormat) UnmarshalText(name []byte) error {
	_, err := indexOf("log format", LogFormats, name)
	*f = LogFormat(name)
	return err
}
