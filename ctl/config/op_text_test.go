package config

import "testing"

// What an operation does is one line, with what it replaces.
func TestOpText(t *testing.T) {
	s := startState(t)
	web := &Service{ServiceKey: s.Services[0].ServiceKey, Scheduler: "wlc", Persist: 60}
	edited := serverAt("10.2.0.11:8080", MethodNAT, 7)
	for _, row := range []struct {
		op           Op
		text, before string
	}{
		{Op{Kind: EditService, Service: web}, "edit-service tcp:10.9.0.1:80 wlc persistent 60s", "rr"},
		{Op{Kind: DeleteService, Service: web}, "delete-service tcp:10.9.0.1:80", "rr, 2 servers"},
		{
			Op{Kind: EditServer, Service: web, Server: &edited},
			"edit-server tcp:10.9.0.1:80 10.2.0.11:8080 nat weight 7", "10.2.0.11:8080 nat weight 1",
		},
		{
			Op{Kind: DeleteServer, Service: web, Server: &edited},
			"delete-server tcp:10.9.0.1:80 10.2.0.11:8080", "10.2.0.11:8080 nat weight 1",
		},
		{Op{Kind: SetSorry, Service: web}, "sorry tcp:10.9.0.1:80 none", "none"},
		{
			Op{Kind: PutSettings, Settings: Values{"slow_start": 30, "announce": 1}},
			"put-settings announce=held slow_start=30", "defaults",
		},
		{Op{Kind: PutMarks}, "put-marks 0 rules", "0 rules"},
		{Op{Kind: Zero}, "zero", ""},
	} {
		before := ""
		if row.op.Kind != Zero {
			before = row.op.Before(&s)
		}
		if text := row.op.String(); text != row.text || before != row.before {
			t.Errorf("%q, before %q; want %q, %q", text, before, row.text, row.before)
		}
	}
}
