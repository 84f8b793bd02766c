package compile

import (
	"slices"
	"testing"

	"uvs/ctl/config"
	"uvs/dataplane/director"
)

// The bounds of settings are those of the director.
func TestSettingBounds(t *testing.T) {
	for _, k := range new(config.State).Director().List() {
		switch {
		case k.Name == "limit_rate" && k.Max != director.MaxRate:
			t.Errorf("limit_rate can be up to %d, want %d", k.Max, int(director.MaxRate))
		case k.Name == "mss_clamp" && !slices.Contains(k.Also, director.AutoMSS):
			t.Errorf("mss_clamp can be %v too, want %d among them", k.Also, director.AutoMSS)
		}
	}
}
