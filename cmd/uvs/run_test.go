package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"uvs/ctl/privsep"
)

// The test binary is also the director's second process.
func TestMain(m *testing.M) {
	if os.Args[0] == privsep.Name {
		os.Exit(directorMain())
	}
	os.Exit(m.Run())
}

// Whichever part ends first, runAll ends all and waits for them, and returns
// the first failure.
func TestRunAll(t *testing.T) {
	failure := errors.New("interface is gone")
	waits := func(ctx context.Context) error { <-ctx.Done(); return nil }
	obeys := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := func(context.Context) error { return failure }
	complains := func(ctx context.Context) error { <-ctx.Done(); return errors.New("interrupted") }
	for _, tt := range []struct {
		sentence string
		parts    []func(context.Context) error
		signal   bool
		want     error
	}{
		{"a part fails at once", []func(context.Context) error{waits, fails, obeys}, false, failure},
		{"others complain about the end", []func(context.Context) error{complains, fails, complains}, false, failure},
		{"the context is cancelled", []func(context.Context) error{waits, obeys}, true, nil},
	} {
		t.Run(tt.sentence, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if tt.signal {
				cancel()
			}
			notify := func(string) error { return nil }
			if err := runAll(ctx, zerolog.Nop(), notify, tt.parts); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// A wrong value gives one line that says what would be right.
func TestRunFlags(t *testing.T) {
	for _, tt := range []struct {
		args, want string
	}{
		{"", "no interface given; name one or more with --interface"},
		{"--interface lo --workers 0", "workers 0: must be 1 to"},
		{"--interface lo --workers 100000", "workers 100000: must be 1 to"},
		{"--interface lo --conn-max 1", "conn-max 1: must be 1024 to"},
		{"--interface lo --spin -1s", "spin -1s: must be 0s to 1s"},
		{"--interface lo --spin 1h", "spin 1h0m0s: must be 0s to 1s"},
		{"--interface lo --log-level loud", `log level "loud" is not trace,`},
		{"--interface lo --log-level fatal", `log level "fatal" is not trace,`},
		{"--interface lo --log-level=", `log level "" is not trace,`},
		{"--interface lo --log-format xml", `log format "xml" is not text, json or syslog`},
		{"--interface=", "empty value"},
		{"--interface lo eth0", `unexpected argument "eth0"`},
		{"--bogus", "unknown option --bogus"},
	} {
		var code int
		output := stderr(t, func() { code = dispatch(append([]string{"run"}, strings.Fields(tt.args)...)) })
		if code != 2 || !strings.Contains(output, tt.want) || strings.Count(output, "\n") != 1 {
			t.Errorf("uvs run %s: code %d, %q; want %q", tt.args, code, output, tt.want)
		}
	}
	var cfg *runConfig
	cmd := runVerb(func(_ *options, c *runConfig) error { cfg = c; return nil })
	cmd.SetArgs([]string{"--interface", "lo"})
	if err := cmd.Execute(); err != nil || cfg.Workers < 1 || len(workerCPUs(cfg)) != cfg.Workers {
		t.Errorf("defaults: %+v, %v", cfg, err)
	}
}

// A wrong command line gives one line, which names the value and what would be right.
func TestWrongCommandLine(t *testing.T) {
	for line, want := range map[string]string{
		"server set tcp:192.0.2.1:80 --weight 5": `uvs server: unknown verb "set"; there are add, edit, `,
		"server lsit -o json":                    `uvs server: unknown verb "lsit"; did you mean list?`,
		"rings -o json":                          `uvs: unknown verb "rings"; see uvs -h`,
		"service add x -s rr":                    "uvs service add: unknown option -s; did you mean --scheduler?",
		"server add x y --nat":                   "uvs server add: unknown option --nat; see",
		"run --interfaces lo":                    "uvs run: unknown option --interfaces; did you mean --interface?",
		"run ---x":                               `uvs run: "---x" is not an option; write --NAME or --NAME=VALUE;`,
		"run --memory 64M --interface lo":        `uvs run: --memory: "64M" is not a whole number; see`,
		"run --workers many --interface lo":      `uvs run: --workers: "many" is not a whole number; see`,
		"run --pin=maybe --interface lo":         `uvs run: --pin: "maybe" is not true or false; see`,
		"service add tcp:192.0.2.1:80 --persistent 5": "uvs service add: --persistent: 5 is not a time with its " +
			"unit, such as 300s or 5m;",
		"service add tcp:192.0.2.1:80 --persistent": "uvs service add: --persistent: want TIME;",
		"apply x --confirm 5":                       "uvs apply: --confirm 5: not a time with its unit, such as ",
		"--wait 5 status":                           "uvs: --wait 5: not a time with its unit, such as 500ms or 60s;",
		"save --version x":                          "uvs save: --version x: not a whole number that this can be;",
		"mark delete --number x":                    "uvs mark delete: --number x: not a whole number ",
		"rollback x":                                `uvs rollback: "x" is not a revision; `,
	} {
		var code int
		output := stderr(t, func() { code = dispatch(strings.Fields(line)) })
		if code != exitUsage || !strings.HasPrefix(output, want) || strings.Count(output, "\n") != 1 {
			t.Errorf("uvs %s: status %d, %q; want %q", line, code, output, want)
		}
	}
}

// A wrong file gives its line, and the line's text below.
func TestRunWrongFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "uvs.yaml")
	for text, want := range map[string]string{
		"director: {interfaces: [lo], workers: 0}\n": ":1: workers 0: must be 1 to ",
		"services:\n  - addresz: 192.0.2.1\n": ":2: services[0].addresz: addresz is not known here; " +
			"did you mean address?\n     2 |   - addresz: 192.0.2.1\n       |     ^\n",
		"# saved\nipvsadm -A -t 192.0.2.1:80 -s best\n": `:2: scheduler "best" is not known; there are `,
		"down 10.0.0.1\nsorry --service web 10.0.0.1\n": `:2: "web" is not a service; `,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var code int
		output := stderr(t, func() { code = dispatch([]string{"run", "--config", path}) })
		if code != exitRefused || !strings.HasPrefix(output, "uvs: "+path+want) || strings.Count(output, "\n") != 3 {
			t.Errorf("%q: code %d, %s; want %s", text, code, output, want)
		}
	}
}

// stderr returns what f prints to standard error.
func stderr(t *testing.T, f func()) string {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = file
	f()
	os.Stderr = old
	output, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}

// The file of a director is one that it can read again at any time.
func TestFileIsRegular(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "uvs.yaml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero", "/"} {
		if err := new(runConfig).read(path); err == nil || !strings.Contains(err.Error(), "is no regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}
