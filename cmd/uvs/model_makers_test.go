package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-json-experiment/json"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/file"
	"uvs/ctl/ipvsadm"
)

// byRoute makes an operation by the routes of resources.
func (d *testDirector) byRoute(op config.Op, _ *plainState) error {
	switch op.Kind {
	case config.Flush:
		now, revision, err := d.client.Document()
		if err != nil {
			return err
		}
		now.Services = []config.Service{}
		_, err = d.client.ApplyDocument(now, api.ApplyOptions{IfRevision: &revision})
		return err
	case config.SetTimeouts:
		values := config.Values{}
		for name, v := range map[string]uint32{
			"timeout_tcp_established": op.Timeouts.TCP, "timeout_tcp_fin_wait": op.Timeouts.TCPFin,
			"timeout_udp": op.Timeouts.UDP,
		} {
			if v != 0 {
				values[name] = v
			}
		}
		return d.ask("PATCH", "settings", values)
	case config.SetAdmin:
		path := "admin/" + url.PathEscape(op.Admin.ServerText())
		if op.Admin.Service != (config.ServiceKey{}) {
			path += "?service=" + url.QueryEscape(op.Admin.Service.Text())
		}
		if op.Admin.Admin == config.AdminUp {
			return d.ask("DELETE", path, nil)
		}
		return d.ask("PUT", path, api.AdminState{Admin: op.Admin.Admin})
	case config.PutAdmin:
		return d.ask("PUT", "admin", op.AdminRules)
	case config.AddMarks:
		return d.ask("POST", "marks", op.Marks)
	case config.PutMarks:
		return d.ask("PUT", "marks", op.Marks)
	case config.DeleteMarks:
		return d.ask("DELETE", "marks", op.Marks)
	case config.Standby, config.Active:
		return d.ask("PUT", "role", api.Role{Role: string(op.Kind)})
	case config.Replace:
		return d.ask("PUT", "config", op.Document)
	case config.Zero:
		if op.Service == nil {
			return d.ask("POST", "zero", nil)
		}
		return d.ask("POST", "zero?service="+url.QueryEscape(op.Service.Text()), nil)
	case config.SetSettings, config.PutSettings:
		path := "settings"
		if op.Service != nil {
			path = "services/" + url.PathEscape(op.Service.Text()) + "/settings"
		}
		return d.ask(map[config.OpKind]string{config.SetSettings: "PATCH", config.PutSettings: "PUT"}[op.Kind], path,
			op.Settings)
	}
	return d.serviceByRoute(op, "services/"+url.PathEscape(op.Service.Text()))
}

// serviceByRoute makes an operation on a service or a server.
func (d *testDirector) serviceByRoute(op config.Op, path string) error {
	server := func(key config.ServerKey) string { return path + "/servers/" + url.PathEscape(key.String()) }
	switch op.Kind {
	case config.AddService:
		err := d.ask("PUT", path, op.Service, "If-None-Match: *")
		if errors.Is(err, syscall.ESTALE) {
			return config.Errorf(syscall.EEXIST, "%v", err)
		}
		return err
	case config.EditService:
		return d.ask("PATCH", path, withNulls(op.Service, "scheduler_flags", "persistent", "netmask",
			"persistence_engine", "one_packet"))
	case config.PutService:
		return d.ask("PUT", path, op.Service)
	case config.DeleteService:
		return d.ask("DELETE", path, nil)
	case config.AddServer:
		v := placed(op.Service, *op.Server)
		if err := d.ask("GET", server(v.ServerKey), nil); !errors.Is(err, syscall.ENOENT) {
			if err == nil {
				err = config.Errorf(syscall.EEXIST, "server %s is there", v.ServerKey)
			}
			return err
		}
		return d.ask("PUT", server(op.Server.ServerKey), op.Server)
	case config.EditServer:
		v := placed(op.Service, *op.Server)
		patch := withNulls(v, "upper_threshold", "lower_threshold", "tunnel")
		if v.Tunnel != (config.Tunnel{}) {
			patch["tunnel"] = withNulls(v.Tunnel, "port", "checksum")
		}
		return d.ask("PATCH", server(v.ServerKey), patch)
	case config.PutServer:
		return d.ask("PUT", server(op.Server.ServerKey), op.Server)
	case config.DeleteServer:
		return d.ask("DELETE", server(op.Server.ServerKey), nil)
	case config.SetSorry:
		if op.Server == nil {
			return d.ask("DELETE", path+"/sorry", nil)
		}
		return d.ask("PUT", path+"/sorry", op.Server)
	}
	return fmt.Errorf("no route for %s", op.Kind)
}

// withNulls returns an object in which members that are missing are null.
func withNulls(v any, names ...string) map[string]any {
	text, _ := json.Marshal(v)
	object := map[string]any{}
	json.Unmarshal(text, &object)
	for _, name := range names {
		if _, ok := object[name]; !ok {
			object[name] = nil
		}
	}
	return object
}

// byFile makes a step by a file with what is then to be in force. A value that is refused in
// an operation is refused in a file.
func (m *model) byFile(s step, verdicts []verdict, states []*plainState) {
	last := len(verdicts) - 1
	want, wantErr := states[len(states)-1].clone(), verdict{}
	switch v := verdicts[last]; {
	case !s.whole || v == verdict{}:
	case v[1] != 0: // a file has nothing that shows it
		return
	default:
		want.apply(s.ops[last])
		wantErr = v
	}
	path := filepath.Join(m.dir, "files.yaml")
	if err := m.applyFile(m.files, path, want.document()); !wantErr.matches(err) {
		m.t.Errorf("files: %v, want %v\n%s", err, wantErr, describe(s))
	}
	if want.standby != states[0].standby && wantErr == (verdict{}) {
		if err := m.files.client.Apply(config.Op{Kind: roleOf(want.standby)}); err != nil {
			m.t.Error(err)
		}
	}
}

// applyFile writes a configuration as a file, and puts it in force as it is read.
func (m *model) applyFile(d *testDirector, path string, doc *config.Document) error {
	text, err := file.Marshal(doc)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	f, err := file.Read(path, parseLine)
	if err != nil {
		return err
	}
	_, err = d.client.ApplyDocument(&f.Document, api.ApplyOptions{})
	return err
}

// byCommand makes an operation by commands of uvs, or of ipvsadm where that has it.
func (m *model) byCommand(op config.Op, now *plainState) error {
	useIPVSAdm := rand.IntN(2) == 0
	switch op.Kind {
	case config.PutService, config.PutSettings, config.PutMarks, config.PutAdmin, config.Replace:
		return m.commandsByFile(op, now)
	case config.PutServer:
		v, svc := placed(op.Service, *op.Server), now.find(op.Service.ServiceKey)
		op.Kind = config.AddServer
		same := func(o config.Server) bool { return o.ServerKey == v.ServerKey }
		if svc != nil && slices.ContainsFunc(svc.Servers, same) {
			op.Kind = config.EditServer
		}
	case config.Flush, config.SetTimeouts, config.Zero:
		useIPVSAdm = true
	case config.AddMarks, config.DeleteMarks:
		return m.changeMarks(op, now)
	}
	if useIPVSAdm {
		if words := ipvsadmWords(op); words != nil {
			return m.runIPVSAdm(words)
		}
	}
	_, err := execute(uvsWords(op))
	return err
}

// commandsByFile makes an operation that no command has by `uvs apply`.
func (m *model) commandsByFile(op config.Op, now *plainState) error {
	doc := op.Document
	if op.Kind != config.Replace {
		next := now.clone()
		if errno := next.apply(op); errno != 0 {
			return errno
		}
		doc = next.document()
	}
	path := filepath.Join(m.dir, "commands.yaml")
	text, err := file.Marshal(doc)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return err
	}
	_, err = execute([]string{"apply", path})
	return err
}

// changeMarks adds or deletes rules one after the other. If one is refused it takes back those
// before it.
func (m *model) changeMarks(op config.Op, now *plainState) error {
	verb := strings.TrimSuffix(string(op.Kind), "-marks")
	for i, r := range op.Marks {
		_, err := execute(append([]string{"mark", verb}, strings.Fields(r.String())...))
		if err != nil {
			if i > 0 {
				m.undo(m.commands, now)
			}
			return err
		}
	}
	return nil
}

// recorder records the error of the last operation.
type recorder struct {
	*api.Client
	err error
}

func (r *recorder) Apply(op config.Op) error {
	r.err = r.Client.Apply(op)
	return r.err
}

// runIPVSAdm runs ipvsadm.
func (m *model) runIPVSAdm(words []string) error {
	var out, errs bytes.Buffer
	r := &recorder{Client: m.commands.client}
	std := ipvsadm.Stdio{In: strings.NewReader(""), Out: &out, Err: &errs}
	switch exit := ipvsadm.Main(words, std, func() (ipvsadm.Director, error) { return r, nil }); {
	case exit == 0 && r.err == nil:
		return nil
	case exit == 255 && r.err != nil:
		return r.err
	case exit == 2 && r.err == nil:
		return errors.New(errs.String())
	default:
		return fmt.Errorf("ipvsadm %q: exit %d, the director's error is %w", words, exit, r.err)
	}
}

// ipvsadmWords returns the words of ipvsadm for an operation; nil: it has none, or cannot say
// what is wrong with it.
func ipvsadmWords(op config.Op) (words []string) {
	svc := config.Service{}
	if op.Service != nil {
		svc = *op.Service
	}
	svc.Servers = nil
	named := ipvsadmLine(svc, 0)
	switch op.Kind {
	case config.AddService, config.EditService:
		mask := op.Service.Netmask.String()
		if mask != "" && strings.Contains(mask, ".") == op.Service.Is6() {
			return nil
		}
		words = ipvsadmLine(svc, 0)
	case config.AddServer, config.EditServer:
		v, e := op.Server, op.Server.Tunnel.Type.Encapsulation()
		isTunnel := v.Method == config.MethodTunnel
		if !isTunnel && v.Tunnel != (config.Tunnel{}) ||
			isTunnel && ((e.Port == 0) != (v.Tunnel.Port == 0) || uint16(v.Tunnel.Checksum) > e.MaxFlags) {
			return nil
		}
		svc.Servers = []config.Server{*v}
		words = ipvsadmLine(svc, 1)
	case config.DeleteServer:
		return append(append([]string{"-d"}, serviceOptionWords(named)...), "-r", op.Server.ServerKey.String())
	case config.DeleteService:
		return append([]string{"-D"}, serviceOptionWords(named)...)
	case config.Zero:
		if words = []string{"-Z"}; op.Service != nil {
			words = append(words, serviceOptionWords(named)...)
		}
		return words
	case config.Flush:
		return []string{"-C"}
	case config.SetTimeouts:
		t := op.Timeouts
		return []string{"--set", fmt.Sprint(t.TCP), fmt.Sprint(t.TCPFin), fmt.Sprint(t.UDP)}
	default:
		return nil
	}
	if op.Kind == config.EditService || op.Kind == config.EditServer {
		words[0] = map[string]string{"-A": "-E", "-a": "-e"}[words[0]]
	}
	return words
}

// ipvsadmLine returns a line of those that make a service.
func ipvsadmLine(s config.Service, n int) []string {
	var b bytes.Buffer
	ipvsadm.Commands(&b, &s)
	return strings.Fields(strings.Split(b.String(), "\n")[n])
}

// serviceOptionWords returns the words of a line that name the service.
func serviceOptionWords(line []string) []string {
	n := 3
	if len(line) > 3 && line[3] == "-6" {
		n = 4
	}
	return line[1:n]
}

// uvsWords returns the command of uvs for an operation.
func uvsWords(op config.Op) (words []string) {
	service := ""
	if op.Service != nil {
		service = op.Service.Text()
	}
	switch op.Kind {
	case config.AddService, config.EditService:
		words = []string{"service", strings.TrimSuffix(string(op.Kind), "-service"), service}
		return append(words, serviceOptions(op.Service)...)
	case config.DeleteService:
		return []string{"service", "delete", service}
	case config.AddServer, config.EditServer:
		v := *op.Server
		if op.Kind == config.EditServer {
			v = placed(op.Service, v)
		}
		words = []string{
			"server", strings.TrimSuffix(string(op.Kind), "-server"), service, v.ServerKey.String(),
			"--weight", fmt.Sprint(v.Weight), "--upper-threshold", fmt.Sprint(v.Upper),
			"--lower-threshold", fmt.Sprint(v.Lower),
		}
		return append(words, methodOptions(v)...)
	case config.DeleteServer:
		return []string{"server", "delete", service, op.Server.ServerKey.String()}
	case config.SetSorry:
		if op.Server == nil {
			return []string{"sorry", "clear", service}
		}
		return append([]string{"sorry", "set", service, op.Server.ServerKey.String()}, methodOptions(*op.Server)...)
	case config.SetSettings:
		words = []string{"setting", "set"}
		if service != "" {
			words = append(words, "--service", service)
		}
		for _, name := range slices.Sorted(maps.Keys(op.Settings)) {
			words = append(words, fmt.Sprintf("%s=%d", name, op.Settings[name]))
		}
		return words
	case config.SetAdmin:
		words = []string{"server", op.Admin.Admin.String()}
		if op.Admin.Service != (config.ServiceKey{}) {
			words = append(words, "--service", op.Admin.Service.Text())
		}
		return append(words, op.Admin.ServerText())
	}
	return []string{string(op.Kind)} // standby, active
}

func serviceOptions(s *config.Service) []string {
	flags, _ := s.SchedFlags.MarshalJSON()
	mask := s.Netmask.String()
	if mask == "" {
		mask = map[bool]string{true: "128", false: "255.255.255.255"}[s.Is6()]
	}
	return []string{
		"--scheduler", s.Scheduler,
		"--scheduler-flags", strings.NewReplacer(`"`, "", "[", "", "]", "").Replace(string(flags)),
		"--persistent", s.Persist.String(), "--netmask", mask, "--persistence-engine", s.PE,
		fmt.Sprintf("--one-packet=%v", s.OPS),
	}
}

func methodOptions(v config.Server) []string {
	words := []string{"--method", v.Method.String(), "--tunnel-type", v.Tunnel.Type.String()}
	return append(words, "--tunnel-port", fmt.Sprint(v.Tunnel.Port), "--tunnel-checksum", v.Tunnel.Checksum.String())
}
