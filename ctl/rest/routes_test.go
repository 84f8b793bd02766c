package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"uvs/ctl/api"
)

const web = "/v1/services/tcp:10.9.0.1:80"

// want checks the status of an answer, and that it has a text.
func (a answer) want(t *testing.T, status int, parts ...string) {
	t.Helper()
	if a.StatusCode != status {
		t.Errorf("%s %s: %s %.300s, want %d", a.Request.Method, a.Request.URL.Path, a.Status, a.text, status)
	}
	for _, part := range parts {
		if !strings.Contains(a.text, part) {
			t.Errorf("%s %s: %.500s, want %q in it", a.Request.Method, a.Request.URL.Path, a.text, part)
		}
	}
}

// A service is added, read, edited, written as it was read, and deleted. Its ETag is its
// revision, by which a stale edit is refused.
func TestServiceResource(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	body := `{"scheduler":"rr","servers":[{"address":"10.2.0.1","weight":3}]}`
	f.ask(t, "PUT", web, body, "If-Match: *").want(t, 412, "does not exist")
	f.ask(t, "PUT", web, body, "If-None-Match: *").want(t, 201, `"10.2.0.1","port":80,"method":"nat","weight":3`)
	f.ask(t, "PUT", web, body, "If-None-Match: *").want(t, 412, "exists already")
	first := f.ask(t, "GET", web, "")
	first.want(t, 200, `"scheduler":"rr"`, `"revision":1`)
	if etag := first.Header.Get("ETag"); etag != `"1"` {
		t.Errorf("ETag %s", etag)
	}
	f.ask(t, "PUT", web, first.text, `If-Match: "1"`).want(t, 200, `"revision":2`) // read, then written
	f.ask(t, "PATCH", web, `{"persistent":"300s"}`, `If-Match: "1"`).want(t, 412, `"errno":116`)
	f.ask(t, "PATCH", web, `{"persistent":"300s","scheduler":null}`).want(t, 200, `"persistent":"300s"`, `"wlc"`)
	f.ask(t, "PATCH", web, `{"persistent":null}`, "If-Match: *").want(t, 200, `"revision":4`)
	f.ask(t, "DELETE", web, "", `If-Match: "3"`).want(t, 412)
	f.ask(t, "DELETE", web, "", `If-Match: 4`).want(t, 400, "with its quotes")
	f.ask(t, "DELETE", web, "", `If-Match: "4"`).want(t, 204)
	f.ask(t, "DELETE", web, "").want(t, 404, `"errno":3`)
	f.ask(t, "GET", web, "").want(t, 404, "no service TCP 10.9.0.1:80")
	f.ask(t, "GET", "/v1/services/tcp:10.9.0.1", "").want(t, 422, "is not a service")
	f.ask(t, "PUT", web, `{"port":81,"address":"10.9.0.1","protocol":"tcp"}`).want(t, 422, "the path is that of")
	f.ask(t, "PUT", "/v1/services/udp:[fd00:9::1]:53", `{"one_packet":true}`).want(t, 201, `"address":"fd00:9::1"`)
	f.ask(t, "PUT", "/v1/services/fwm6:7", `{}`).want(t, 201, `"mark":7,"ipv6":true,"scheduler":"wlc"`)
	f.ask(t, "PATCH", "/v1/services/fwm6:7", `{"netmask":64,"persistent":"1m"}`).want(t, 200, `"netmask":"64"`)
}

// A server is a resource in its service, with the ETag of that.
func TestServerResource(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip))
	f.listen(t)
	f.ask(t, "PUT", web+"/servers/10.2.0.1:8080", `{"weight":3}`).want(t, 201, `"weight":3`, `"state":"up"`)
	f.ask(t, "PUT", web+"/servers/10.2.0.2", `{"method":"dr"}`, `If-Match: "2"`).want(t, 201, `"port":80,"method":"dr"`)
	f.ask(t, "PATCH", web+"/servers/10.2.0.1:8080", `{"weight":0}`, `If-Match: "2"`).want(t, 412)
	f.ask(t, "PATCH", web+"/servers/10.2.0.1:8080", `{"weight":0}`).want(t, 200, `"weight":0`, "quiesced")
	f.ask(t, "PATCH", web+"/servers/10.2.0.1:8080", `{"weight":-1}`).want(t, 422, `"location":"/weight"`)
	got := f.ask(t, "GET", web+"/servers/10.2.0.1:8080", "")
	f.ask(t, "PUT", web+"/servers/10.2.0.1:8080", got.text).want(t, 200, `"weight":0`)
	f.ask(t, "GET", web+"/servers", "").want(t, 200, `[{"address":"10.2.0.2"`)
	f.ask(t, "GET", web+"/servers/10.2.0.3:80", "").want(t, 404)
	f.ask(t, "DELETE", web+"/servers/10.2.0.2:80", "").want(t, 204)
	f.ask(t, "DELETE", web+"/servers/10.2.0.2:80", "").want(t, 404)
	f.ask(t, "PUT", "/v1/services/tcp:10.9.0.9:80/servers/10.2.0.2:80", "{}").want(t, 404, "no service")
	f.ask(t, "PUT", web+"/servers/10.2.0.3:8080", `{"method":"dr"}`).want(t, 201, `"port":80,"method":"dr"`)
	f.ask(t, "PATCH", web+"/servers/10.2.0.1:8080", `{"method":"dr"}`).want(t, 422, `"location":"/method"`)
	f.ask(t, "GET", web+"/sorry", "").want(t, 404, "no sorry server")
	f.ask(t, "PUT", web+"/sorry", `{"address":"10.2.0.9"}`).want(t, 200, `"10.2.0.9","port":80`)
	f.ask(t, "DELETE", web+"/sorry", "").want(t, 204)
}

// Lists can be filtered, and read in parts.
func TestServiceList(t *testing.T) {
	f := newFixture(t)
	for i := range 5 {
		f.must(t, add80(fmt.Sprintf("10.9.0.%d:80", i+1)))
	}
	f.listen(t)
	f.ask(t, "PUT", "/v1/services/udp:10.9.0.1:53", "{}").want(t, 201)
	for query, want := range map[string]int{
		"": 6, "protocol=udp": 1, "address=10.9.0.1": 2, "mark=7": 0, "name=tcp:10.9.": 5, "name=tcp:10.9.0.5": 1,
		"protocol=tcp&limit=2": 2,
	} {
		var list []api.ServiceStatus
		got := f.ask(t, "GET", "/v1/services?"+query, "")
		if err := json.Unmarshal([]byte(got.text), &list); err != nil || len(list) != want {
			t.Errorf("%s: %d services, %v; want %d", query, len(list), err, want)
		}
	}
	f.must(t, withServer(vip, "10.2.0.1:8080"))
	f.ask(t, "GET", "/v1/services?brief=true&address=10.9.0.1&protocol=tcp", "").want(t, 200,
		`"admin":"up","active":0,"inactive":0,"persist_conns":0,"state":"up"}]`)
	n, path := 0, "/v1/services?protocol=tcp&limit=2"
	for ; path != ""; n++ {
		link := f.ask(t, "GET", path, "").Header.Get("Link")
		path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), ">")
	}
	if n != 3 {
		t.Errorf("%d parts", n)
	}
	f.ask(t, "GET", "/v1/services?limit=2&cursor=tcp:10.9.9.9:80", "").want(t, 410)
	f.ask(t, "GET", "/v1/services?limitt=2", "").want(t, 422, "did you mean limit?", `"query.limitt"`)
	f.ask(t, "GET", "/v1/services?limit=x", "").want(t, 422, `"query.limit"`)
	f.ask(t, "GET", "/v1/services?limit=1&limit=2", "").want(t, 422, "given twice")
}

// What is not there, and what cannot be done with it, is a problem too.
func TestUnknownRoutes(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	f.ask(t, "GET", "/v1/nothing", "").want(t, 404, "/v1/openapi.json")
	f.ask(t, "PATCH", "/v1/marks", "{}").want(t, 405, "GET, PUT, POST, DELETE")
	f.ask(t, "PUT", web, `{"schedular":"rr"}`).want(t, 422, "did you mean scheduler?", `"location":"/schedular"`)
	f.ask(t, "PUT", web, `{"scheduler":"best"}`).want(t, 422, `"location":"/scheduler"`)
	f.ask(t, "PUT", web, `{"servers":[{"address":"10.2.0.1"},{"address":"x"}]}`).want(t, 422, `"/servers/1/address"`)
	f.ask(t, "PUT", web, `{"servers":`).want(t, 400)
}

// The whole configuration is read, compared, replaced, taken back and rolled back.
func TestConfigResource(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip))
	f.listen(t)
	before := f.ask(t, "GET", "/v1/config", "")
	before.want(t, 200, `"services":[{"address":"10.9.0.1"`)
	other := strings.ReplaceAll(before.text, "10.9.0.1", "10.9.0.2")
	f.ask(t, "POST", "/v1/config/diff", other).want(t, 200, "delete-service", "put-service")
	f.ask(t, "PUT", "/v1/config", other, `If-Match: "7"`).want(t, 412)
	f.ask(t, "POST", "/v1/config/confirm", "").want(t, 404)
	f.ask(t, "PUT", "/v1/config?confirm=60s&how=apply+uvs.yaml", other, `If-Match: "1"`).want(t, 200, `"revision":2`)
	f.ask(t, "PUT", "/v1/config", other).want(t, 409, "confirm")
	f.ask(t, "GET", "/v1/status", "").want(t, 200, `"confirm_by":"20`, `"revision":2`)
	f.ask(t, "POST", "/v1/config/take-back", "").want(t, 200)
	f.ask(t, "GET", "/v1/config", "").want(t, 200, "10.9.0.1")
	f.ask(t, "PUT", "/v1/config", other).want(t, 200)
	f.ask(t, "POST", "/v1/rollback", "").want(t, 200)
	f.ask(t, "GET", "/v1/config", "").want(t, 200, "10.9.0.1")
	var versions []api.Version
	json.Unmarshal([]byte(f.ask(t, "GET", "/v1/versions", "").text), &versions)
	if len(versions) != 3 || versions[1].How != "apply" { // what was taken back is none
		t.Fatalf("versions %+v", versions)
	}
	old := fmt.Sprintf("/v1/versions/%d", versions[len(versions)-2].Revision)
	f.ask(t, "GET", old, "").want(t, 200, "10.9.0.2")
	f.ask(t, "POST", old+"/rollback", "").want(t, 200)
	f.ask(t, "GET", "/v1/versions/99", "").want(t, 404)
	f.ask(t, "POST", "/v1/reload", "").want(t, 404, "--config")
	f.ask(t, "PUT", "/v1/config", `{"services":[{"address":"10.9.0.1"}]}`).want(t, 422, `"/services/0/protocol"`)
}

// Operations come into force together, or those that can.
func TestTransactions(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	service := `"service":{"address":"10.9.0.1","port":80,"protocol":"tcp"}`
	two := `"operations":[{"verb":"add-service",` + service + `},{"verb":"delete-server",` + service +
		`,"server":{"address":"10.2.0.1"}}]`
	f.ask(t, "POST", "/v1/transactions", "{"+two+"}").want(t, 404, `"location":"/operations/1"`, `"errno":2`)
	f.ask(t, "GET", "/v1/services", "").want(t, 200, "[]")
	f.ask(t, "POST", "/v1/transactions", `{"whole":false,`+two+"}").want(t, 200, `"results":[null,{"errno":2`)
	f.ask(t, "POST", "/v1/transactions", `{"if_revision":9,"whole":false,`+two+"}").want(t, 412)
}

// Settings, mark rules and admin states have their own resources.
func TestSettingResources(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip), withServer(vip, "10.2.0.1:8080"))
	f.listen(t)
	f.ask(t, "PATCH", "/v1/settings", `{"slow_start":"30s","announce":"held"}`).want(t, 200)
	f.ask(t, "PATCH", "/v1/settings", `{"announce":null,"schedule_icmp":true}`).want(t, 200)
	f.ask(t, "GET", "/v1/config", "").want(t, 200, `"settings":{"schedule_icmp":true,"slow_start":"30s"}`)
	f.ask(t, "PUT", "/v1/settings", `{"no_server":1}`, `If-Match: "3"`).want(t, 412)
	f.ask(t, "PUT", "/v1/settings", `{"no_server":1}`).want(t, 200, `"name":"slow_start","value":0`)
	f.ask(t, "PATCH", "/v1/settings", `{"slow_stat":1}`).want(t, 422, `"/slow_stat"`)
	f.ask(t, "PATCH", web+"/settings", `{"slow_start":"9s"}`).want(t, 200, `"name":"slow_start","value":9`)
	f.ask(t, "PATCH", web+"/settings", `{"drop_entry":1}`).want(t, 422, `"/drop_entry"`)
	f.ask(t, "PUT", web+"/settings", `{}`).want(t, 200, `"name":"slow_start","value":0`)
	f.ask(t, "PATCH", "/v1/settings", `{"removed_conns":"drop"}`).want(t, 200, `"name":"removed_conns","value":1`)
	f.ask(t, "PATCH", "/v1/settings", `{"expire_nodest_conn":1}`).want(t, 200, `"name":"removed_conns","value":3`)
	f.ask(t, "PATCH", "/v1/settings", `{"expire_nodest_conn":null}`).want(t, 200, `"name":"removed_conns","value":0`)

	rule := `[{"destination":"10.9.0.0/24","protocol":"tcp","destination_ports":[80,"90:99"],"mark":7}]`
	f.ask(t, "POST", "/v1/marks", rule).want(t, 200, `"mark":7`)
	f.ask(t, "POST", "/v1/marks", rule).want(t, 409)
	f.ask(t, "DELETE", "/v1/marks", rule).want(t, 200, "[]")
	f.ask(t, "DELETE", "/v1/marks", rule).want(t, 404)
	f.ask(t, "PUT", "/v1/marks", `[{"mark":0}]`).want(t, 422, `"location":"/0"`)

	f.ask(t, "PUT", "/v1/admin/10.2.0.1", `{"admin":"drain"}`).want(t, 200, `"admin":"drain"`)
	f.ask(t, "PUT", "/v1/admin/10.2.0.1:8080?service=tcp:10.9.0.1:80", `{"admin":"down"}`).want(t, 200, `"down"`)
	f.ask(t, "DELETE", "/v1/admin/10.2.0.1:8080", "").want(t, 409)
	f.ask(t, "DELETE", "/v1/admin/10.2.0.1", "").want(t, 200, "[]")
	f.ask(t, "PUT", "/v1/admin", `[{"address":"0.0.0.0","admin":"down"}]`).want(t, 422, `"/0/address"`)
	f.ask(t, "PUT", "/v1/admin", `[{"address":"10.2.0.7","admin":"down"}]`).want(t, 200, "10.2.0.7")
}

// The state of the director is read and changed.
func TestStateResources(t *testing.T) {
	log := api.Log{Level: "info", Format: "text"}
	f := newFixture(t, func(s *Server) {
		s.Log = func() api.Log { return log }
		s.SetLog = func(l api.Log) error { log = l; return nil }
	})
	f.must(t, add80(vip), withServer(vip, "10.2.0.1:8080"))
	f.listen(t)
	f.ask(t, "PUT", "/v1/role", `{"role":"standby"}`).want(t, 200, "standby")
	f.ask(t, "PUT", "/v1/role", `{"role":"master"}`).want(t, 422, `"/role"`)
	f.ask(t, "GET", "/v1/role", "").want(t, 200, "standby")
	f.ask(t, "PUT", "/v1/role", `{"role":"active"}`).want(t, 200)
	f.ask(t, "PUT", "/v1/log", `{"level":"debug"}`).want(t, 200, `{"level":"debug","format":"text"}`)
	f.ask(t, "GET", "/v1/healthz", "").want(t, 200, `{"status":"ok"}`)
	defer func() { f.stop(); f.ask(t, "GET", "/v1/healthz", "").want(t, 500, "0 of 1 workers run") }()
	f.ask(t, "GET", "/v1/counters", "").want(t, 200, `"api_connections","value":`)
	f.ask(t, "POST", "/v1/zero?service=tcp:10.9.0.1:80", "").want(t, 204)
	f.ask(t, "POST", "/v1/zero?service=tcp:10.9.0.2:80", "").want(t, 404)
	f.connect(3)
	f.ask(t, "GET", "/v1/conns?client=10.1.0.0/16", "").want(t, 200, `"state":"SYN_RECV"`)
	f.ask(t, "GET", "/v1/conns/count?server=10.2.0.1", "").want(t, 200, `"live":3`)
	f.ask(t, "POST", "/v1/conns/flush", "").want(t, 422, "or all of them")
	f.ask(t, "POST", "/v1/conns/flush?all=true", "").want(t, 200, `{"count":3}`)
	f.ask(t, "GET", "/v1/explain?proto=tcp&client=10.1.0.2:4711&virtual=10.9.0.1:80", "").want(t, 200, `"verdict"`)
	f.ask(t, "GET", "/v1/explain?proto=tcp", "").want(t, 422, "ADDRESS:PORT")
	got := f.ask(t, "GET", "/v1/openapi.json", "")
	got.want(t, http.StatusOK, `"openapi":"3.1.0"`)
}

// A setting has one value, whatever name a change gives it: its own, or one of the kernel.
func TestSettingNames(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	for _, row := range []struct{ patch, want string }{
		{`{"removed_conns":"serve","slow_start":"3s"}`, `{"removed_conns":"serve","slow_start":"3s"}`},
		{`{"expire_nodest_conn":1}`, `{"removed_conns":"end","slow_start":"3s"}`},
		{`{"net.ipv4.vs.expire_nodest_conn":0}`, `{"removed_conns":"drop","slow_start":"3s"}`},
		{`{"net/ipv4/vs/conn_reuse_mode":0}`, `{"conn_reuse_mode":0,"removed_conns":"drop","slow_start":"3s"}`},
		{`{"net.ipv4.vs.conn_reuse_mode":null,"slow_start":null}`, `{"removed_conns":"drop"}`},
		{`{"expire_nodest_conn":null,"slow_start":1}`, `{"slow_start":"1s"}`},
	} {
		f.ask(t, "PATCH", "/v1/settings", row.patch).want(t, 200)
		f.ask(t, "GET", "/v1/config", "").want(t, 200, `"settings":`+row.want)
	}
	f.ask(t, "PATCH", "/v1/settings", `{"slow_stat":null}`).want(t, 422, `"/slow_stat"`)
}

// null deletes a part in a patch; as a body it replaces nothing, and as a part it is none.
func TestNull(t *testing.T) {
	f := newFixture(t)
	f.must(t, add80(vip), withServer(vip, "10.2.0.1:8080"))
	f.listen(t)
	_, before := f.Manager.Document()
	for _, path := range []string{
		"/v1/config", "/v1/settings", "/v1/marks", "/v1/admin", web, web + "/settings", web + "/servers/10.2.0.1:8080",
		web + "/sorry",
	} {
		f.ask(t, "PUT", path, " null").want(t, 422, "null is no value")
	}
	for _, path := range []string{"/v1/settings", web, web + "/settings", web + "/servers/10.2.0.1:8080"} {
		f.ask(t, "PATCH", path, "null").want(t, 422, "null is no value")
	}
	if _, after := f.Manager.Document(); after != before {
		t.Errorf("revision %d, then %d", before, after)
	}
	f.ask(t, "PUT", web+"/servers/10.2.0.9", `{"weight":null,"port":null}`).want(t, 201, `"weight":1`)
	f.ask(t, "PUT", web+"/servers/10.2.0.9", `{"weight":0}`).want(t, 200, `"weight":0`)
	f.ask(t, "PUT", web, `{"address":null,"scheduler":null}`).want(t, 200, `"scheduler":"wlc"`)
}

// A director that was never changed has the ETag "0", by which the first change is made once.
func TestFirstRevision(t *testing.T) {
	f := newFixture(t)
	f.listen(t)
	first := f.ask(t, "GET", "/v1/config", "")
	first.want(t, 200)
	if tag := first.Header.Get("ETag"); tag != `"0"` {
		t.Errorf("ETag %s", tag)
	}
	body := `{"services":[{"address":"10.1.0.9","port":80,"protocol":"tcp"}]}`
	f.ask(t, "PUT", "/v1/config", body, `If-Match: "0"`).want(t, 200)
	f.ask(t, "PUT", "/v1/config", body, `If-Match: "0"`).want(t, 412, "has changed since")
	f.ask(t, "DELETE", "/v1/services/tcp:10.1.0.9:80", "", `If-Match: "0"`).want(t, 400, "no ETag")
}
