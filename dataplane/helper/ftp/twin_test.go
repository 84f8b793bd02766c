package ftp

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"uvs/dataplane/helper/stream"
	"uvs/dataplane/wire"
)

// twin is a slow second implementation of the helper's rules. It gets whole lines in
// the order in which they were judged, and returns what becomes of them. Strings hold a
// rune for each byte.
type twin struct {
	context   Context
	expect    recorder
	waiting   map[string]int // commands without a reply, by the code of their reply
	block     string         // code of the multi-line reply that has begun
	denied    bool
	told      map[int]int // ports announced in this reply, with those that the client was told
	began     bool
	encrypted bool
}

func newTwin(t Context) *twin {
	return &twin{context: t, waiting: map[string]int{}, told: map[int]int{}}
}

// recorder records what it is asked for. It refuses ports that end in 7, and lets
// clients call the next port in place of passive ones that end in 5.
type recorder struct{ calls []string }

func (e *recorder) ExpectPassive(server wire.Addr, port uint16) (uint16, bool) {
	e.calls = append(e.calls, fmt.Sprint("passive ", server, " ", port))
	if port%10 == 5 {
		return port + 1, true
	}
	return port, port%10 != 7
}

func (e *recorder) ExpectActive(client wire.Addr, port uint16) bool {
	e.calls = append(e.calls, fmt.Sprint("active ", client, " ", port))
	return port%10 != 7
}

var (
	telnet          = regexp.MustCompile(`(?s)\xff([\xfb-\xfe].?|[\xf0-\xfa\xff])?`)
	command         = regexp.MustCompile(`(?is)^(PORT|EPRT|PASV|EPSV|AUTH|LPRT|LPSV)(?:[ \t\v\f]+(.*)|[ \t\v\f]*)$`)
	commandPrefix   = regexp.MustCompile(`(?i)^(P?|PO|POR|EP?|EPR|PAS?|EPS|AU?|AUT|LP?|LPR|LPS)$`)
	hostPortNumbers = regexp.MustCompile(`^\d+([ \t\v\f]*,[ \t\v\f]*\d+){5}`)
	delimiter       = regexp.MustCompile(`^([!-/:-~])`)
	codeLine        = regexp.MustCompile(`^(\d\d\d)([- \r\n])`)
)

// runesOf turns bytes into runes of the same numbers, and bytesOf turns them back.
func runesOf(b []byte) string {
	s := make([]rune, len(b))
	for i, c := range b {
		s[i] = rune(c)
	}
	return string(s)
}

func bytesOf(s string) (b []byte) {
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// eachLine calls do with each line of a text, up to MaxUnit bytes of it. do reports
// whether the rest of a longer line passes.
func eachLine(text []byte, do func(line string) (string, bool)) (b []byte) {
	for _, line := range strings.SplitAfter(runesOf(text), "\n") {
		r := []rune(line)
		if len(r) == 0 {
			continue
		}
		rest := ""
		if len(r) > stream.MaxUnit {
			r, rest = r[:stream.MaxUnit], string(r[stream.MaxUnit:])
		}
		new, keep := do(string(r))
		b = append(b, bytesOf(new)...)
		if keep {
			b = append(b, bytesOf(rest)...)
		}
	}
	return b
}

// client returns what becomes of the client's text.
func (r *twin) client(text []byte) []byte {
	if !r.began && len(text) > 0 {
		r.began = true
		r.encrypted = r.encrypted || text[0] == 22
	}
	if r.encrypted {
		return text
	}
	return eachLine(text, r.command)
}

func (r *twin) command(line string) (string, bool) {
	bare := strings.NewReplacer("\r", "", "\n", "", "\x00", "").Replace(telnet.ReplaceAllString(line, ""))
	bare = strings.Trim(bare, " \t\v\f")
	m := command.FindStringSubmatch(bare)
	if m == nil {
		if len([]rune(line)) == stream.MaxUnit && !strings.HasSuffix(line, "\n") && commandPrefix.MatchString(bare) {
			return "PORT 0,0,0,0,0,0\r\n", false
		}
		return line, true
	}
	arg := m[2]
	var who netip.Addr
	var port int
	switch strings.ToUpper(m[1]) {
	case "PASV", "EPSV":
		if !strings.EqualFold(m[1]+arg, "EPSVALL") {
			r.waiting["227"]++
			r.waiting["229"]++
		}
		return line, true
	case "AUTH":
		r.waiting["234"]++
		return line, true
	case "LPRT", "LPSV":
		return "PORT 0,0,0,0,0,0\r\n", false
	case "PORT":
		if g := hostPortNumbers.FindString(arg); g == arg {
			who, port = address(g)
		}
		if r.active(who, port) {
			return line, true
		}
		return "PORT 0,0,0,0,0,0\r\n", false
	}
	if d := delimiter.FindString(arg); d != "" {
		if f := strings.Split(arg, d); len(f) == 5 && f[0] == "" && f[4] == "" && digits(f[3]) {
			n, err := strconv.Atoi(f[3])
			a, bad := netip.ParseAddr(f[2])
			if err == nil && n < 1<<16 && bad == nil && a.Zone() == "" && !a.Is4In6() &&
				(f[1] == "1" && a.Is4() || f[1] == "2" && a.Is6()) {
				who, port = a, n
			}
		}
	}
	if r.active(who, port) {
		return line, true
	}
	if r.context.Client.Is4() {
		return "EPRT |1|0.0.0.0|0|\r\n", false
	}
	return "EPRT |2|::|0|\r\n", false
}

func (r *twin) active(who netip.Addr, port int) bool {
	a := wire.AddrFrom(who)
	if !who.IsValid() || port == 0 {
		return false
	}
	if a != r.context.Client && (!r.context.Bounce || a.Is4() != r.context.Client.Is4()) {
		return false
	}
	return r.expect.ExpectActive(a, uint16(port))
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// address reads six numbers. It returns the zero address if they are too large.
func address(s string) (netip.Addr, int) {
	var n [6]byte
	fields := strings.Split(s, ",")
	if len(fields) != len(n) {
		return netip.Addr{}, 0
	}
	for i, f := range fields {
		f = strings.Trim(f, " \t\v\f")
		v, err := strconv.Atoi(f)
		if err != nil || v > 255 || !digits(f) {
			return netip.Addr{}, 0
		}
		n[i] = byte(v)
	}
	return netip.AddrFrom4([4]byte(n[:4])), int(n[4])<<8 | int(n[5])
}

// server returns what becomes of the server's text.
func (r *twin) server(text []byte) []byte {
	if r.encrypted {
		return text
	}
	return eachLine(text, r.reply)
}

func (r *twin) reply(line string) (string, bool) {
	m := codeLine.FindStringSubmatch(line)
	if r.encrypted || m == nil || r.block != "" && r.block != m[1] {
		return line, true
	}
	code, final := m[1], m[2] != "-"
	new, keep := line, true
	if r.waiting[code] > 0 {
		var ok, found bool
		switch code {
		case "227":
			new, found, ok = r.passive(line)
		case "229":
			new, found, ok = r.extended(line)
		case "234":
			r.encrypted = final
			found, ok = true, true
		}
		long := !strings.HasSuffix(line, "\n")
		if !found && (r.denied || long) || found && !ok || len([]rune(new)) > stream.MaxUnit {
			c := "425"
			if r.block != "" && !r.denied {
				c = code
			}
			sep := "-"
			if final {
				sep = " "
			}
			new, keep, r.denied = c+sep+"Can't open data connection.\r\n", false, true
		}
		if r.denied {
			keep = false
		}
		if final {
			r.waiting[code]--
			if code != "234" {
				r.waiting["227"], r.waiting["229"] = r.waiting[code], r.waiting[code]
			}
		}
	}
	r.block = code
	if final {
		r.block, r.denied, r.told = "", false, map[int]int{}
	}
	return new, keep
}

// passive reads and writes a 227. found: there is an address; ok: it may be used.
func (r *twin) passive(line string) (new string, found, ok bool) {
	at := -1
	if i := strings.IndexByte(line, '('); i >= 0 && r.six(line[i+1:]) {
		at = i + 1
	}
	for i := 3; at < 0 && i < len(line); i++ {
		if digits(line[i:i+1]) && !digits(line[i-1:i]) && r.six(line[i:]) {
			at = i
		}
	}
	if at < 0 {
		return line, false, false
	}
	group := hostPortNumbers.FindString(line[at:])
	who, port := address(group)
	if port == 0 {
		return line, false, false
	}
	server := wire.AddrFrom(who)
	t := r.context
	switch {
	case server == t.Server, server == t.VIP, who.IsUnspecified(), t.LeaveAddress:
		server = t.Server
	case !t.Bounce || !t.Server.Is4():
		return line, true, false
	}
	vport, ok := r.announce(server, port)
	if t.VIP.Is4() && !t.LeaveAddress {
		who = t.VIP.Netip()
	}
	text := fmt.Sprintf("%s,%d,%d", strings.ReplaceAll(who.String(), ".", ","), vport>>8, vport&255)
	return line[:at] + text + line[at+len(group):], true, ok
}

func (r *twin) six(s string) bool {
	a, _ := address(hostPortNumbers.FindString(s))
	return a.IsValid()
}

func (r *twin) announce(server wire.Addr, port int) (int, bool) {
	if v, ok := r.told[port]; ok && r.block != "" && !r.denied {
		return v, true
	}
	v, ok := r.expect.ExpectPassive(server, uint16(port))
	if ok {
		r.told = map[int]int{port: int(v)}
	}
	return int(v), ok
}

// extended reads and writes a 229.
func (r *twin) extended(line string) (new string, found, ok bool) {
	var starts []int
	if i := strings.IndexByte(line, '('); i >= 0 {
		starts = append(starts, i+1)
	}
	for i := 3; i+2 < len(line); i++ {
		if line[i] == line[i+1] && line[i] == line[i+2] {
			starts = append(starts, i)
		}
	}
	for _, at := range starts {
		d := delimiter.FindString(line[at:])
		if d == "" {
			continue
		}
		f := strings.SplitN(line[at:], d, 5)
		if len(f) < 5 || !digits(f[3]) {
			continue
		}
		port, err := strconv.Atoi(f[3])
		if err != nil || port == 0 || port > 0xffff {
			continue
		}
		vport, ok := r.announce(r.context.Server, port)
		return line[:at] + d + d + d + strconv.Itoa(vport) + d + f[4], true, ok
	}
	return line, false, false
}
