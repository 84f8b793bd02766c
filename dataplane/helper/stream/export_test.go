package stream

var outcomeNames = [NumOutcome]string{
	"passed", "shortened", "answered", "dropped_kept", "dropped_gap", "dropped_full", "dropped_room",
	"dropped_checksum", "dropped_fragment", "dropped_refused",
}

func (o Outcome) String() string { return outcomeNames[o] }
