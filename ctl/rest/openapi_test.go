package rest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"uvs/ctl/api"
)

// description is what the test reads of an OpenAPI description.
type description struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct {
		Schemas map[string]json.RawMessage
	}
}

type operation struct {
	OperationID string
	Summary     string
	Parameters  []struct {
		Name, In, Description string
		Example               any
	}
	RequestBody struct {
		Content map[string]struct {
			Example json.RawMessage
			Schema  json.RawMessage
		}
	}
	Responses map[string]struct {
		Content map[string]struct{ Schema json.RawMessage }
	}
}

// The order in which the examples make sense: what is there before, what then changes, and what
// is then taken away.
var exampleOrder = []string{
	"put-config", "take-back", "put-config", "confirm", "rollback", "rollback-to",
	"put-service", "put-server", "put-sorry", "put-service-settings", "put-marks", "delete-marks", "add-marks",
	"put-admin-state", "transact", "*", "put-admin-state", "delete-admin-state", "delete-server", "delete-sorry",
	"delete-service",
}

// Every route is described with its errors, its parameters and an example of its body. The
// examples fit the schemas and are taken, and so are the answers of what they ask.
func TestExamples(t *testing.T) {
	f := newFixture(t, func(s *Server) {
		s.Log = func() api.Log { return api.Log{Level: "info", Format: "text"} }
		s.SetLog = func(api.Log) error { return nil }
		s.Reload = func(api.Author) ([]string, error) { return nil, nil }
	})
	f.listen(t)
	text := f.ask(t, "GET", "/v1/openapi.json", "").text
	var d description
	if err := json.Unmarshal([]byte(text), &d); err != nil || !strings.HasPrefix(d.OpenAPI, "3.1") {
		t.Fatalf("%s: %v", d.OpenAPI, err)
	}
	c := schemaCompiler(t, text)
	byID := map[string]func(){}
	var others []string
	for path, methods := range d.Paths {
		for method, op := range methods {
			if op.OperationID == "" || op.Summary == "" || len(op.Responses) < 2 {
				t.Errorf("%s %s: described by %+v", method, path, op)
			}
			byID[op.OperationID] = func() { f.example(t, c, strings.ToUpper(method), path, &op) }
			others = append(others, op.OperationID)
		}
	}
	if len(others) < 45 {
		t.Errorf("%d operations", len(others))
	}
	for _, id := range exampleOrder {
		switch {
		case id == "*":
			for _, id := range others {
				if !contains(exampleOrder, id) {
					byID[id]()
				}
			}
		case byID[id] != nil:
			byID[id]()
		}
	}
}

func contains(list []string, s string) bool {
	return strings.Contains(" "+strings.Join(list, " ")+" ", " "+s+" ")
}

// schemaCompiler compiles schemas that refer to a description's components.
func schemaCompiler(t *testing.T, text string) func(schema json.RawMessage) *jsonschema.Schema {
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	return func(schema json.RawMessage) *jsonschema.Schema {
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft2020)
		moved := strings.ReplaceAll(string(schema), "#/components/", "all.json#/components/")
		own, err := jsonschema.UnmarshalJSON(strings.NewReader(moved))
		n++
		name := fmt.Sprintf("schema%d.json", n)
		if err == nil {
			err = c.AddResource("all.json", parsed)
		}
		if err == nil {
			err = c.AddResource(name, own)
		}
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.Compile(name)
		if err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		return s
	}
}

// example sends the example of an operation, and checks it and its answer by their schemas.
func (f *fixture) example(
	t *testing.T, compile func(json.RawMessage) *jsonschema.Schema, method, path string, op *operation,
) {
	t.Helper()
	query, body := url.Values{}, ""
	for _, p := range op.Parameters {
		if p.Description == "" {
			t.Errorf("%s: parameter %s has no description", op.OperationID, p.Name)
		}
		switch {
		case p.In == "path" && p.Example == nil:
			t.Errorf("%s: no example of %s", op.OperationID, p.Name)
		case p.In == "path":
			if p.Name == "revision" {
				versions := f.Manager.Versions()
				p.Example = versions[0].Revision
			}
			path = strings.ReplaceAll(path, "{"+p.Name+"}", fmt.Sprint(p.Example))
		case p.In == "query" && p.Example != nil:
			query.Set(p.Name, fmt.Sprint(p.Example))
		}
	}
	header := "Accept: */*"
	for contentType, content := range op.RequestBody.Content {
		if body = string(content.Example); body == "" {
			t.Errorf("%s: no example of the body", op.OperationID)
		}
		header = "Content-Type: " + contentType
		if contentType == mergePatch { // may have a part of what is required
			continue
		}
		if err := fits(t, compile(content.Schema), body); err != nil && op.OperationID != "put-service" &&
			op.OperationID != "put-server" { // their path has what is required
			t.Errorf("%s: %v", op.OperationID, err)
		}
	}
	if op.OperationID == "watch-events" {
		f.open(t, path)
		return
	}
	got := f.ask(t, method, path+"?"+query.Encode(), body, header)
	if got.StatusCode >= 300 {
		t.Errorf("%s: %s %s %s %.300s", op.OperationID, method, path, got.Status, got.text)
		return
	}
	response, ok := op.Responses[fmt.Sprint(got.StatusCode)]
	if !ok {
		response = op.Responses["200"] // of what was there before
	}
	for contentType, content := range response.Content {
		if contentType != lines {
			if err := fits(t, compile(content.Schema), got.text); err != nil {
				t.Errorf("%s: %.300s: %v", op.OperationID, got.text, err)
			}
		}
	}
}
