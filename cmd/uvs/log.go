package main

import (
	"bytes"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"uvs/ctl/config"
)

// logOutput writes the log to standard error, or to the host's syslog. Its form can be changed
// while it is used.
type logOutput struct {
	out      io.Writer
	priority bool // for the journal: lines begin with it (sd-daemon(3))

	mu     sync.Mutex
	syslog *syslog.Writer // nil unless that is the format
	text   bool
}

// newLog makes a logger whose level and form its output can change.
func newLog() (zerolog.Logger, *logOutput) {
	out := &logOutput{out: os.Stderr, priority: os.Getenv("JOURNAL_STREAM") != "", text: true}
	return zerolog.New(out).With().Timestamp().Logger(), out
}

// set changes the level and the form.
func (l *logOutput) set(level config.LogLevel, format config.LogFormat) error {
	parsed, err := zerolog.ParseLevel(string(level))
	if err != nil {
		return err
	}
	var to *syslog.Writer
	if format == config.LogSyslog {
		if to, err = syslog.New(syslog.LOG_DAEMON, "uvs"); err != nil {
			return fmt.Errorf("log to syslog: %w", err)
		}
	}
	zerolog.SetGlobalLevel(parsed)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.syslog != nil {
		l.syslog.Close()
	}
	l.syslog, l.text = to, format != config.LogJSON
	return nil
}

// Write writes a line without a level.
func (l *logOutput) Write(line []byte) (int, error) { return l.WriteLevel(zerolog.NoLevel, line) }

// WriteLevel writes a line of zerolog's JSON.
func (l *logOutput) WriteLevel(level zerolog.Level, line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.syslog != nil {
		return zerolog.SyslogLevelWriter(l.syslog).WriteLevel(level, line)
	}
	var b bytes.Buffer
	if l.priority {
		fmt.Fprintf(&b, "<%d>", priorities[level])
	}
	if !l.text {
		b.Write(line)
	} else {
		text := zerolog.ConsoleWriter{Out: &b, NoColor: true, TimeFormat: time.RFC3339}
		if _, err := text.Write(line); err != nil {
			return 0, err
		}
	}
	_, err := b.WriteTo(l.out)
	return len(line), err
}

// priorities are those of syslog(3) by level.
var priorities = map[zerolog.Level]syslog.Priority{
	zerolog.TraceLevel: syslog.LOG_DEBUG, zerolog.DebugLevel: syslog.LOG_DEBUG, zerolog.InfoLevel: syslog.LOG_INFO,
	zerolog.WarnLevel: syslog.LOG_WARNING, zerolog.ErrorLevel: syslog.LOG_ERR, zerolog.NoLevel: syslog.LOG_INFO,
}
