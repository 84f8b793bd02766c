package compile

import (
	"uvs/conntrack"
	"uvs/conntrack/frag"
	"uvs/ctl/config"
	"uvs/dataplane/director"
)

// clientLimit bounds what a single client may ask of a service; nil: there is no bound.
func clientLimit(s *config.Settings, policers *director.Policers) *director.Limit {
	if s.LimitRate == 0 && s.LimitConns == 0 {
		return nil
	}
	return &director.Limit{Rate: s.LimitRate, Conns: s.LimitConns, Policers: policers}
}

// ConnSettings returns the settings of the connection table.
func ConnSettings(s *config.Settings) *conntrack.Settings {
	return &conntrack.Settings{
		Timeouts:   s.Timeouts,
		SecureTCP:  mode(s.SecureTCP),
		DropEntry:  mode(s.DropEntry),
		DropPacket: mode(s.DropPacket),
		AMDropRate: int(s.AMDropRate),
		AMReserve:  int(s.AMReserve),

		ResetForgotten: s.ResetForgotten && !s.SloppyTCP,
	}
}

// mode reads the value of a defence as IPVS's sysctls have it: there 1 and 2 are the
// kernel's own notes that the defence is idle and active.
func mode(v uint32) conntrack.Mode {
	switch v {
	case 0:
		return conntrack.ModeOff
	case 3:
		return conntrack.ModeAlways
	}
	return conntrack.ModeAuto
}

func directorSettings(s *config.Settings) director.Settings {
	return director.Settings{
		ConnReuseMode:     uint8(s.ConnReuseMode),
		RescheduleRemoved: s.RemovedConns != config.RemovedDrop,
		SloppyTCP:         s.SloppyTCP,
		SloppySCTP:        s.SloppySCTP,
		ScheduleICMP:      s.ScheduleICMP,
		NATICMPSend:       s.NATICMPSend,
		FragmentTime:      seconds(s.FragmentTime),
		Queue: frag.Limits{
			Timeout: seconds(s.FragmentTime),
			Bytes:   int(s.FragmentHold) << 10,
			Source:  int(s.FragmentHoldSource) << 10,
		},
		KeepTags:    s.KeepTags,
		ReversePath: director.ReversePath(s.ReversePath),
		BackupOnly:  s.BackupOnly,
	}
}

func seconds(n uint32) conntrack.Tick { return conntrack.Tick(n) * conntrack.Second }
