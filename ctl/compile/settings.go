package compile

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/config"
	"uvs/dataplane/director"
)

// limit is what a single client may ask of a service; nil: anything.
func compileLimit(t config.Values, policers *director.Policers) *director.Limit {
	limit := &director.Limit{Rate: t.Value(config.LimitRate), Conns: t.Value(config.LimitConns), Policers: policers}
	if limit.Rate == 0 && limit.Conns == 0 {
		return nil
	}
	return limit
}

// settings is what the connection table takes of t.
func ConnSettings(t config.Values) *conntrack.Settings {
	return &conntrack.Settings{
		Timeouts:   t.Timeouts(),
		SecureTCP:  mode(t.Value(config.SecureTCP)),
		DropEntry:  mode(t.Value(config.DropEntry)),
		DropPacket: mode(t.Value(config.DropPacket)),
		DropRate:   int(t.Value(config.AMDropRate)),
		Reserve:    int(t.Value(config.AMReserve)),

		ResetForgotten: t.Value(config.ResetForgotten) != 0 && t.Value(config.SloppyTCP) == 0,
	}
}

// mode reads a defence's value as IPVS's sysctls have it: the kernel writes 1
// and 2 itself while the defence is idle and active.
func mode(v uint32) conntrack.Mode {
	switch v {
	case 0:
		return conntrack.ModeOff
	case 3:
		return conntrack.ModeAlways
	}
	return conntrack.ModeAuto
}

// rules is what the director takes of t.
func directorSettings(t config.Values) director.Settings {
	return director.Settings{
		ReuseMode:      uint8(t.Value(config.ConnReuseMode)),
		ExpireNoServer: t.Value(config.ExpireNodestConn) != 0,
		SloppyTCP:      t.Value(config.SloppyTCP) != 0,
		SloppySCTP:     t.Value(config.SloppySCTP) != 0,
		ScheduleICMP:   t.Value(config.ScheduleICMP) != 0,
		RefuseReplies:  t.Value(config.NATICMPSend) != 0,
		FragmentTime:   conntrack.Tick(t.Value(config.FragmentTime)) * conntrack.Second,
		Hold: frag.Limits{
			Timeout: conntrack.Tick(t.Value(config.FragmentTime)) * conntrack.Second,
			Bytes:   int(t.Value(config.FragmentHold)) << 10,
			Source:  int(t.Value(config.FragmentHoldSource)) << 10,
		},
		KeepTags: t.Value(config.KeepTags) != 0,
	}
}
