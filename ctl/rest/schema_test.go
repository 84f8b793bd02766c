package rest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"uvs/ctl/config"
)

// fileSchema returns the schema of files, compiled.
func fileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("uvs.json", parsed); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("uvs.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fits(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return s.Validate(v)
}

// accepted returns why a configuration is not accepted.
func accepted(text string) error {
	d := config.Document{}
	if err := config.Decode([]byte(text), &d); err != nil {
		return err
	}
	_, err := d.State(new(config.State))
	return err
}

const webService = `{"address":"192.0.2.10","port":80,"protocol":"tcp","servers":[%s]}`

// The schema refuses what is plainly wrong.
func TestSchemaRefuses(t *testing.T) {
	s := fileSchema(t)
	server := func(members string) string {
		return fmt.Sprintf(`{"services":[`+webService+`]}`, `{"address":"10.0.0.1",`+members+`}`)
	}
	for _, text := range []string{
		`[]`, `{"service":[]}`, `{"services":{}}`, `{"services":[{"port":80}]}`,
		`{"services":[{"address":"10.0","port":80,"protocol":"tcp"}]}`,
		`{"services":[{"address":"10.0.0.1","port":70000,"protocol":"tcp"}]}`,
		`{"services":[{"address":"10.0.0.1","port":"http","protocol":"tcp"}]}`,
		`{"services":[{"address":"10.0.0.1","port":80,"protocol":"icmp"}]}`,
		`{"services":[{"address":"10.0.0.1","port":80,"protocol":"tcp","scheduler":"best"}]}`,
		`{"services":[{"address":"10.0.0.1","port":80,"protocol":"tcp","persistent":300}]}`,
		`{"services":[{"address":"10.0.0.1","port":80,"protocol":"tcp","scheduler_flags":["fast"]}]}`,
		`{"services":[{"address":"10.0.0.1","port":80,"protocol":"tcp","settings":{"drop_entry":1}}]}`,
		server(`"weigth":1`), server(`"weight":-1`), server(`"weight":"3"`), server(`"method":"snat"`),
		server(`"tunnel":{"type":"vxlan"}`), server(`"admin":"off"`), server(`"upper_threshold":1.5`),
		`{"settings":{"no_such_setting":1}}`, `{"settings":{"drop_entry":4}}`, `{"settings":{"announce":"often"}}`,
		`{"settings":{"slow_start":"5 minutes"}}`, `{"settings":{"schedule_icmp":2}}`,
		`{"marks":[{"destination":"10.0.0.0"}]}`, `{"marks":[{"destination":"10.0","mark":1}]}`,
		`{"marks":[{"mark":1,"destination_ports":["http"]}]}`, `{"admin":[{"address":"10.0.0.1"}]}`,
		`{"director":{"log_level":"loud"}}`, `{"director":{"interface":["eth0"]}}`, `{"director":{"workers":"two"}}`,
	} {
		if fits(t, s, text) == nil {
			t.Errorf("the schema takes %s", text)
		}
		if accepted(text) == nil {
			t.Errorf("a director takes %s", text)
		}
	}
}

// What a director accepts fits the schema.
func TestSchemaTakesWhatIsAccepted(t *testing.T) {
	s, rng, n := fileSchema(t), rand.New(rand.NewPCG(1, 2)), 0
	for range 30000 {
		text := randomDocument(rng)
		if accepted(text) != nil {
			continue
		}
		n++
		if err := fits(t, s, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if n < 1000 {
		t.Errorf("only %d documents were accepted", n)
	}
}

// values are texts of JSON that members may have, most of them right.
var values = map[string][]string{
	"address": {`"192.0.2.10"`, `"2001:db8::10"`, `"::ffff:192.0.2.1"`, `"fe80::1%eth0"`},
	"port":    {`80`, `0`, `65535`}, "protocol": {`"tcp"`, `"TCP"`, `"udp"`, `"6"`, `"017"`, `"Sctp"`},
	"mark": {`7`, `4294967295`}, "ipv6": {`true`, `false`},
	"scheduler":          {`"wlc"`, `"sh"`, `"mh"`},
	"scheduler_flags":    {`[]`, `["fallback","port"]`, `["sh-port"]`, `["mh-fallback"]`, `["flag-1","flag-2","flag-3"]`},
	"persistent":         {`"300s"`, `"5m"`, `"1h30m"`, `0`, `"0"`, `"1.5m"`, `"+60s"`, `"60000ms"`},
	"netmask":            {`"255.255.255.0"`, `64`, `"64"`, `"255.0.255.0"`},
	"persistence_engine": {`"sip"`, `""`},
	"one_packet":         {`true`, `false`},
	"settings": {
		`{"slow_start":"30s"}`, `{"slow_start":30}`, `{"slow_start":"30"}`, `{"announce":"held"}`, `{"announce":1}`,
		`{"net.ipv4.vs.slow_start":1}`, `{"net/ipv4/vs/pmtu_disc":"true"}`, `{"pmtu_disc":false}`, `{"pmtu_disc":1}`,
		`{"mh_table":251}`, `{"mss_clamp":1}`, `{"mss_clamp":1400}`, `{"timeout_udp":"5m"}`, `{"ftp":"on"}`,
	},
	"method": {`"nat"`, `"dr"`, `"tunnel"`, `"masq"`, `"ROUTE"`, `"Masq"`},
	"weight": {`0`, `1`, `2147483647`}, "upper_threshold": {`0`, `9`}, "lower_threshold": {`0`, `3`},
	"tunnel": {
		`{"type":"ipip"}`, `{"type":"gue","port":6080}`, `{"type":"gue","port":1,"checksum":"remcsum"}`,
		`{"type":"gre","checksum":"csum"}`, `{}`,
	},
	"admin":             {`"up"`, `"drain"`, `"down"`},
	"destination":       {`"192.0.2.0/24"`, `"192.0.2.7"`, `"2001:db8::/32"`, `"0.0.0.0/0"`},
	"source":            {`"198.51.100.7/32"`},
	"destination_ports": {`80`, `"80"`, `[80,"90:99"]`, `"80,443,8000:8100"`, `[":1024"]`, `"1024:"`, `[]`},
	"source_ports":      {`["1024:65535"]`},
	"interface":         {`"eth0"`},
}

func randomObject(rng *rand.Rand, likely float64, names ...string) string {
	var members []string
	for i, name := range names {
		if list := values[name]; rng.Float64() < likely || i == 0 {
			members = append(members, fmt.Sprintf("%q:%s", name, list[rng.IntN(len(list))]))
		}
	}
	return strings.Join(members, ",")
}

func randomList(rng *rand.Rand, most int, object func() string) string {
	var list []string
	for range rng.IntN(most + 1) {
		list = append(list, object())
	}
	return "[" + strings.Join(list, ",") + "]"
}

func randomDocument(rng *rand.Rand) string {
	server := func() string {
		return "{" + randomObject(rng, 0.3, "address", "port", "method", "weight", "upper_threshold", "lower_threshold",
			"tunnel", "admin") + "}"
	}
	service := func() string {
		key := randomObject(rng, 0.95, "address", "port", "protocol")
		if rng.IntN(4) == 0 {
			key = randomObject(rng, 0.5, "mark", "ipv6")
		}
		text := "{" + key + "," + randomObject(rng, 0.2, "scheduler", "scheduler_flags", "persistent", "netmask",
			"persistence_engine", "one_packet", "settings") + `,"servers":` + randomList(rng, 2, server)
		if rng.IntN(5) == 0 {
			text += `,"sorry":` + server()
		}
		return text + "}"
	}
	rule := func() string {
		return "{" + randomObject(rng, 0.4, "mark", "destination", "source", "ipv6", "protocol", "destination_ports",
			"source_ports", "interface") + "}"
	}
	text := `{"services":` + randomList(rng, 2, service)
	if rng.IntN(3) == 0 {
		text += `,"marks":` + randomList(rng, 2, rule)
	}
	if rng.IntN(4) == 0 {
		text += "," + randomObject(rng, 1, "settings")
	}
	return text + "}"
}

// docs/example.yaml fits the schema, and has every member that a file can have.
func TestSchemaOfExample(t *testing.T) {
	text, err := os.ReadFile("../../docs/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := fits(t, fileSchema(t), string(example)); err != nil {
		t.Error(err)
	}
	for _, section := range Reference() {
		for _, m := range section.Members {
			if m.About == "" || m.Values == "" {
				t.Errorf("%s.%s is not described: %+v", section.Path, m.Name, m)
			}
			if !strings.Contains(string(text), m.Name+":") {
				t.Errorf("the example has no %s, which %q can have", m.Name, section.Path)
			}
		}
	}
}
