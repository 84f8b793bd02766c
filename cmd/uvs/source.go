package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/rs/zerolog"

	"uvs/ctl"
	"uvs/ctl/api"
	"uvs/ctl/config"
	"uvs/ctl/store"
)

// keptState is an open state directory with what it had; without a store there is none.
type keptState struct {
	*store.Kept
	store *store.Store
}

// configSource is where a director's configuration comes from: the file of its options and
// its state directory.
type configSource struct {
	load    func() (*runConfig, error)
	manager *ctl.Manager
	logs    *logOutput
	log     zerolog.Logger

	hangup  chan os.Signal // SIGHUP
	mu      sync.Mutex
	running *runConfig
}

func newConfigSource(
	load func() (*runConfig, error), cfg *runConfig, logs *logOutput, log zerolog.Logger,
) *configSource {
	return &configSource{load: load, running: cfg, logs: logs, log: log, hangup: make(chan os.Signal, 1)}
}

// followSignals returns a context that ends with SIGINT, with SIGTERM and with the channel. A
// second such signal ends the process at once, and the kernel cleans up. SIGHUP reloads.
func (s *configSource) followSignals(signals <-chan os.Signal) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for got := range signals {
			switch {
			case got == syscall.SIGHUP:
				select {
				case s.hangup <- got:
				default: // a reload is due
				}
			case ctx.Err() != nil:
				os.Exit(1)
			default:
				cancel()
			}
		}
		os.Exit(1) // the privileged process is gone, and the guard with it
	}()
	return ctx, cancel
}

// start puts a manager's first configuration in force: what was kept, or what the file says.
func (s *configSource) start(manager *ctl.Manager, kept keptState) error {
	s.manager = manager
	cfg := s.running
	s.manager.SetOptions(&cfg.Run)
	from := "the file"
	if kept.store != nil {
		if err := s.manager.Restore(kept.store, kept.Kept); err != nil {
			return err
		}
		switch {
		case kept.Revision == 0: // nothing was kept
		case cfg.document == nil, cfg.StartFrom == config.StartFromState,
			cfg.StartFrom == config.StartFromNewest && cfg.digest == s.manager.File():
			from = "the state"
		}
	}
	if cfg.document != nil && from == "the file" {
		_, errs := s.manager.Change(ctl.Change{
			Ops: []config.Op{{Kind: config.Replace, Document: cfg.document}}, Whole: true,
			How: "start " + s.running.path, File: cfg.digest,
		})
		if errs[0] != nil {
			return fmt.Errorf("%s: %w", s.running.path, errs[0])
		}
	}
	if cfg.document != nil && kept.store != nil {
		s.log.Info().Str("from", from).Str("file", s.running.path).Str("state", cfg.State).Msg("configured")
	}
	if cfg.Standby {
		return s.manager.Apply(config.Op{Kind: config.Standby})
	}
	return nil
}

// reload reads the file again and puts it in force, or keeps what runs. It returns the options
// that only the next start will take.
func (s *configSource) reload(author api.Author) (later []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running.path == "" {
		return nil, config.Errorf(syscall.ENOENT, "the director was started without --config: no file to reload")
	}
	next, err := s.load()
	if err != nil {
		return nil, err
	}
	_, errs := s.manager.Change(ctl.Change{
		Ops: []config.Op{{Kind: config.Replace, Document: next.document}}, Whole: true,
		Author: author, How: "reload " + s.running.path, File: next.digest,
	})
	if errs[0] != nil {
		return nil, fmt.Errorf("%s: %w", s.running.path, errs[0])
	}
	later = differentOptions(&s.running.Run, &next.Run)
	if len(later) > 0 {
		s.log.Warn().Strs("options", later).Msg("these options of the file take effect at the next start")
	}
	return later, s.setLog(next.LogLevel, next.LogFormat)
}

// isOwnFile reports whether a digest is that of the director's file as it is now.
func (s *configSource) isOwnFile(digest string) bool {
	now, err := s.load()
	return err == nil && now.path != "" && now.digest == digest
}

// nextStart describes what the director would start with now.
func (s *configSource) nextStart() string {
	s.mu.Lock()
	path, dir, from := s.running.path, s.running.State, s.running.StartFrom
	s.mu.Unlock()
	switch {
	case path == "" && dir == "":
		return "nothing: it has neither --config nor --state"
	case dir == "", path != "" && from == config.StartFromFile:
		return "the file " + path
	case path == "", from == config.StartFromState:
		return "what is kept in " + dir
	case s.isOwnFile(s.manager.File()):
		return fmt.Sprintf("what is kept in %s; %s has not changed since it was applied", dir, path)
	}
	return fmt.Sprintf("the file %s, which has changed since it was applied", path)
}

// currentLog returns what is logged, and how.
func (s *configSource) currentLog() api.Log {
	s.mu.Lock()
	defer s.mu.Unlock()
	return api.Log{Level: s.running.LogLevel, Format: s.running.LogFormat}
}

// changeLog is setLog for the API.
func (s *configSource) changeLog(l api.Log) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.setLog(l.Level, l.Format)
}

// setLog changes the log of the running director.
func (s *configSource) setLog(level config.LogLevel, format config.LogFormat) error {
	if err := s.logs.set(level, format); err != nil {
		return err
	}
	changed := *s.running
	changed.LogLevel, changed.LogFormat = level, format
	s.running = &changed
	s.manager.SetOptions(&changed.Run)
	return nil
}

// atRunTime are the members of options that can change while the director runs, or that say
// only how it starts.
var atRunTime = []string{"log_level", "log_format", "standby", "start_from", "socket"}

// differentOptions returns the names of the options that differ and that a running director
// cannot change.
func differentOptions(a, b *config.Run) (names []string) {
	x, y := reflect.ValueOf(*a), reflect.ValueOf(*b)
	for i := range x.NumField() {
		name, _, _ := strings.Cut(x.Type().Field(i).Tag.Get("json"), ",")
		if !slices.Contains(atRunTime, name) && !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	return names
}

// reloadOnHangup reloads when SIGHUP comes, until ctx ends.
func (s *configSource) reloadOnHangup(ctx context.Context) error {
	for {
		select {
		case <-s.hangup:
			if _, err := s.reload(api.Author{User: "SIGHUP"}); err != nil {
				line, _, _ := strings.Cut(err.Error(), "\n") // what follows shows the line of the file
				s.log.Error().Str("error", line).Msg("not reloaded; what ran before runs on")
			} else {
				s.log.Info().Str("file", s.running.path).Msg("reloaded")
			}
		case <-ctx.Done():
			return nil
		}
	}
}
