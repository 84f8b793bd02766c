package privsep

import (
	"net/netip"
	"sync"

	"uvs/ctl/guard"
)

// GuardChange is how Rules differ from those applied before. A change costs what it changes.
type GuardChange struct {
	Rules   GuardRules
	Added   map[uint64]guard.ServiceRules // by a number that the client chose
	Removed []uint64
}

// GuardRules are guard.Rules without the services.
type GuardRules struct {
	Interfaces        []string
	Marked, OldMarked []guard.Match
	Tagged            bool
	HostAddrs         []netip.Addr
}

// guardClient remembers what the other process has.
type guardClient struct {
	mu      sync.Mutex
	applied guard.ServiceSet
	numbers map[*guard.ServiceRules]uint64
	last    uint64
}

// apply sends the difference between r and what was applied before, by call.
func (c *guardClient) apply(r guard.Rules, call func(GuardChange) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change := GuardChange{
		Rules: GuardRules{r.Interfaces, r.Marked, r.OldMarked, r.Tagged, r.HostAddrs},
		Added: map[uint64]guard.ServiceRules{},
	}
	added := map[*guard.ServiceRules]uint64{}
	for rules := range r.Services.Without(&c.applied) {
		c.last++
		added[rules] = c.last
		change.Added[c.last] = *rules
	}
	var removed []*guard.ServiceRules
	for rules := range c.applied.Without(&r.Services) {
		removed = append(removed, rules)
		change.Removed = append(change.Removed, c.numbers[rules])
	}
	if err := call(change); err != nil {
		return err
	}
	for _, rules := range removed {
		delete(c.numbers, rules)
	}
	for rules, number := range added {
		c.numbers[rules] = number
	}
	c.applied = r.Services
	return nil
}

// guardServer is the other side of a guardClient.
type guardServer struct {
	mu       sync.Mutex
	applied  guard.ServiceSet
	services map[uint64]*guard.ServiceRules
}

// apply hands the changed rules to apply. If that fails, nothing has changed.
func (s *guardServer) apply(change GuardChange, apply func(guard.Rules) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.applied.Clone()
	for number, rules := range change.Added {
		s.services[number] = &rules
		next.Set(&rules, struct{}{})
	}
	for _, number := range change.Removed {
		if rules := s.services[number]; rules != nil {
			next.Delete(rules)
		}
	}
	err := apply(guard.Rules{
		Interfaces: change.Rules.Interfaces, Services: next, Marked: change.Rules.Marked,
		OldMarked: change.Rules.OldMarked, Tagged: change.Rules.Tagged, HostAddrs: change.Rules.HostAddrs,
	})
	if err != nil {
		for number := range change.Added {
			delete(s.services, number)
		}
		return err
	}
	for _, number := range change.Removed {
		delete(s.services, number)
	}
	s.applied = next
	return nil
}
