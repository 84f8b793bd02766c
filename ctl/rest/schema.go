package rest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/sched"
)

// fileSchemas returns the reference to the schema of a configuration file, and all schemas in it.
func fileSchemas() (ref string, r *registry) {
	r = newRegistry("#/$defs/")
	document := r.Schema(reflect.TypeFor[config.Document](), true, "")
	path := &huma.Schema{Type: huma.TypeString}
	include := append(choice{path}, &huma.Schema{Type: huma.TypeArray, Items: path}).schema(nil)
	include.Description = "other files whose sections are added: files, directories and patterns, relative to this file"
	r.SchemaFromRef(document.Ref).Properties["include"] = include
	return document.Ref, r
}

// Schema returns the JSON Schema (2020-12) of a configuration file, for editors.
func Schema() []byte {
	ref, r := fileSchemas()
	schema := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "uvs.yaml",
		"$ref": ref, "$defs": r.schemas,
	}
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic(err) // a type of the configuration has no schema
	}
	return append(text, '\n')
}

// comments are the comments of types and of their fields, as config.Service and
// config.Service.Persist. A test keeps them; its option -update writes them.
//
//go:generate go test -run TestComments -update
//go:embed comments.json
var commentsText []byte

// registry has the schemas of types, as they are in JSON. It is a huma.Registry that knows
// which words the types of ctl/config take.
type registry struct {
	prefix   string
	schemas  map[string]*huma.Schema
	types    map[string]reflect.Type
	comments map[string]string
}

func newRegistry(prefix string) *registry {
	r := &registry{prefix: prefix, schemas: map[string]*huma.Schema{}, types: map[string]reflect.Type{}}
	if err := json.Unmarshal(commentsText, &r.comments); err != nil {
		panic(err) // it is part of the program
	}
	return r
}

// Schema returns the schema of a type. That of a struct is a reference, if allowed.
func (r *registry) Schema(t reflect.Type, allowRef bool, hint string) *huma.Schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if words := schemaOfWords(t); words != nil {
		return words
	}
	if t.Kind() != reflect.Struct || t.Name() == "Time" {
		if s := huma.SchemaFromType(r, t); t.Kind() != reflect.Interface {
			return s
		}
		return &huma.Schema{}
	}
	name := t.Name()
	if name == "" {
		name = hint
	}
	if r.schemas[name] == nil {
		r.schemas[name], r.types[name] = &huma.Schema{}, t
		*r.schemas[name] = *r.object(t)
	}
	if r.types[name] != t {
		panic("two types have the name " + name)
	}
	if allowRef {
		return &huma.Schema{Ref: r.prefix + name}
	}
	return r.schemas[name]
}

// object returns the schema of a struct.
func (r *registry) object(t reflect.Type) *huma.Schema {
	s := &huma.Schema{
		Type: huma.TypeObject, Description: r.comments[typeName(t)], Properties: map[string]*huma.Schema{},
	}
	strict := strings.HasSuffix(t.PkgPath(), "/config")
	if strict {
		s.AdditionalProperties = false
	}
	for _, m := range jsonMembers(t) {
		p := huma.SchemaFromField(r, m.field, t.Name()+m.field.Name)
		if comment := r.comments[fieldName(t, m.field)]; comment != "" {
			if about, ok := strings.CutPrefix(comment, m.field.Name+" "); ok {
				comment = m.name + " " + about
			}
			p.Description = comment
		}
		s.Properties[m.name] = p
		if !strict && !strings.Contains(m.options, "omit") {
			s.Required = append(s.Required, m.name)
		}
	}
	if known := objects[t]; known != nil {
		known(s)
	}
	return s
}

// jsonMember is a field of a struct with its name and options in JSON.
type jsonMember struct {
	name, options string
	field         reflect.StructField
}

// jsonMembers returns the members of a struct, in the order of its fields.
func jsonMembers(t reflect.Type) (list []jsonMember) {
	at := map[string]int{}
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || f.Anonymous && name == "" || name == "-" || name == "" {
			continue
		}
		m := jsonMember{name, options, f}
		if i, ok := at[name]; !ok {
			at[name] = len(list)
			list = append(list, m)
		} else if len(f.Index) < len(list[i].field.Index) {
			list[i] = m // it hides that of an embedded struct
		}
	}
	return list
}

func typeName(t reflect.Type) string {
	return t.PkgPath()[strings.LastIndexByte(t.PkgPath(), '/')+1:] + "." + t.Name()
}

// fieldName returns the name of a field in the struct that declares it.
func fieldName(t reflect.Type, f reflect.StructField) string {
	for _, i := range f.Index[:len(f.Index)-1] {
		t = t.Field(i).Type
	}
	return typeName(t) + "." + f.Name
}

// objects complete the schemas of structs: what is required, and what is assumed otherwise.
var objects = map[reflect.Type]func(*huma.Schema){
	reflect.TypeFor[config.Service](): func(s *huma.Schema) {
		s.AnyOf = []*huma.Schema{{Required: []string{"address", "protocol"}}, {Required: []string{"mark"}}}
		protocols := anyCase("tcp", "udp", "sctp").or(textOf("^0*(6|17|132)$"))
		s.Properties["protocol"] = protocols.schema(s.Properties["protocol"])
		s.Properties["scheduler"] = words(sched.Names()...).schema(s.Properties["scheduler"])
		s.Properties["scheduler"].Default = "wlc"
		s.Properties["settings"] = reference(s.Properties["settings"], settingsSchema(true))
	},
	reflect.TypeFor[config.ServiceKey](): func(s *huma.Schema) {
		s.AnyOf = []*huma.Schema{{Required: []string{"address", "protocol"}}, {Required: []string{"mark"}}}
	},
	reflect.TypeFor[config.Server](): func(s *huma.Schema) {
		s.Required = []string{"address"}
		s.Properties["weight"].Default, s.Properties["method"].Default = 1, "nat"
	},
	reflect.TypeFor[config.Op](): func(s *huma.Schema) {
		s.Required = []string{"verb"}
		s.Description = "An operation. Add refuses what exists, edit what does not, put does both."
		verbs := &huma.Schema{Type: huma.TypeString, Description: "What to do, with which other members"}
		for _, line := range verbTable {
			names, members, _ := strings.Cut(line, ": ")
			for name := range strings.FieldsSeq(names) {
				verbs.Enum = append(verbs.Enum, name)
			}
			verbs.Description += fmt.Sprintf("\n- %s: %s", names, members)
		}
		s.Properties["verb"] = verbs
		for name, p := range s.Properties {
			if name != "verb" {
				p.Description = ""
			}
		}
	},
	reflect.TypeFor[api.Transaction](): func(s *huma.Schema) {
		s.Required, s.AdditionalProperties, s.Properties["whole"].Default = []string{"operations"}, false, true
	},
	reflect.TypeFor[api.TransactionResult](): func(s *huma.Schema) {
		items := s.Properties["results"].Items
		s.Properties["results"].Items = &huma.Schema{AnyOf: []*huma.Schema{items, {Type: "null"}}}
	},
	reflect.TypeFor[api.ServerStatus](): func(s *huma.Schema) {
		s.Required = slices.DeleteFunc(s.Required, func(name string) bool { return name == "stats" || name == "path" })
	},
	reflect.TypeFor[config.Run](): func(s *huma.Schema) {
		run := config.DefaultRun()
		for name, value := range map[string]any{
			"pin": run.Pin, "sandbox": run.Sandbox, "conn_max": run.ConnMax, "spin": run.Spin.String(),
			"start_from": run.StartFrom.String(), "log_level": run.LogLevel, "log_format": run.LogFormat,
		} {
			s.Properties[name].Default = value
		}
	},
	reflect.TypeFor[config.TLS](): func(s *huma.Schema) {
		s.Required = []string{"address", "certificate", "key", "client_ca"}
	},
	reflect.TypeFor[config.MarkRule]():  func(s *huma.Schema) { s.Required = []string{"mark"} },
	reflect.TypeFor[config.AdminRule](): func(s *huma.Schema) { s.Required = []string{"address", "admin"} },
}

// verbTable are the operations with the members that they need (config.Op).
var verbTable = []string{
	"add-service edit-service: service, without settings, sorry and servers",
	"put-service: service, whole",
	"delete-service: service, of which only the address, port, protocol or mark counts, as below",
	"flush: none; all services are deleted",
	"add-server edit-server put-server delete-server: service, server",
	"sorry: service, server; without server the service loses its sorry server",
	"set-settings put-settings: settings; of service if it is given; put gives the others their defaults",
	"set: timeouts; 0 keeps one",
	"zero: service; without it, all",
	"set-admin: admin",
	"put-admin: admin_rules, in place of all",
	"add-marks delete-marks: marks, all or none of them",
	"put-marks: marks, in place of all",
	"standby active: none",
	"replace: document, in place of all",
}

// reference gives a schema the description of another, which it replaces.
func reference(old, s *huma.Schema) *huma.Schema {
	s.Description = old.Description
	return s
}

// SchemaFromRef returns the schema that a reference leads to.
func (r *registry) SchemaFromRef(ref string) *huma.Schema {
	return r.schemas[strings.TrimPrefix(ref, r.prefix)]
}

// TypeFromRef returns the type that a reference leads to.
func (r *registry) TypeFromRef(ref string) reflect.Type {
	return r.types[strings.TrimPrefix(ref, r.prefix)]
}

// Map returns the schemas of all structs by name.
func (r *registry) Map() map[string]*huma.Schema { return r.schemas }

// RegisterTypeAlias is of huma.Registry; words.go has what other types are in JSON.
func (r *registry) RegisterTypeAlias(reflect.Type, reflect.Type) { panic("aliases are not used") }

// MarshalJSON returns the schemas by name.
func (r *registry) MarshalJSON() ([]byte, error) { return json.Marshal(r.schemas) }

// MarshalYAML returns the schemas by name.
func (r *registry) MarshalYAML() (any, error) { return r.schemas, nil }

var _ huma.Registry = (*registry)(nil)
