package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// programDir is where the uvs binary is built once for all tests that need it.
// TestMain makes and removes it.
var programDir string

var builtProgram = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(programDir, "uvs")
	cmd := exec.Command("go", "build", "-o", path, "uvs/cmd/uvs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build uvs: %w\n%s", err, out)
	}
	return path, nil
})

// buildProgram builds the uvs binary.
func buildProgram(t *testing.T) string {
	t.Helper()
	path, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// The demo's statements hold for every layout and setting, with fewer requests.
func TestDirectorInEveryLayout(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds")
	}
	needNamespaces(t)
	uvs := buildProgram(t)
	for what, p := range map[string]Plan{
		"nat":                                    {Method: NAT},
		"nat, one arm":                           {Method: NAT, Arms: 1},
		"nat, finished frames only":              {Method: NAT, NoOffloads: true},
		"nat, vip on director":                   {Method: NAT, VIPOnDirector: true},
		"nat, vip on director, kernel routes":    {Method: NAT, VIPOnDirector: true, Forward: true},
		"nat, one arm, kernel routes":            {Method: NAT, Arms: 1, Forward: true},
		"nat, loss-free, jumbo frames":           {Method: NAT, LossFree: true, MTU: 9000},
		"dr":                                     {Method: DR},
		"dr, two arms":                           {Method: DR, Arms: 2},
		"dr, vip on director, kernel routes":     {Method: DR, VIPOnDirector: true, Forward: true},
		"dr, finished frames only":               {Method: DR, NoOffloads: true},
		"tunnel":                                 {Method: Tunnel},
		"tunnel, two arms":                       {Method: Tunnel, Arms: 2},
		"tunnel over IPv4":                       {Method: Tunnel, TunnelOver: 4},
		"tunnel over IPv6":                       {Method: Tunnel, TunnelOver: 6},
		"tunnel, loss-free":                      {Method: Tunnel, LossFree: true},
		"tunnel, finished frames only":           {Method: Tunnel, NoOffloads: true},
		"tunnel, vip on director, kernel routes": {Method: Tunnel, VIPOnDirector: true, Forward: true},
	} {
		t.Run(what, func(t *testing.T) {
			p.Name, p.Clients, p.Servers = "tdirector", 2, 2
			if err := Remove(p.Name); err != nil { // left by a killed test
				t.Fatal(err)
			}
			var out strings.Builder
			d := &demo{out: &out, uvs: uvs, trafficSizes: trafficSizes{perServer: 10, stream: 4 << 20, hashed: 1 << 20}}
			err := d.run(t.Context(), p)
			if err != nil || len(d.failures) > 0 {
				t.Errorf("%v\n%s", err, out.String())
			}
			checkRemoved(t, d.Lab)
		})
	}
}
