package tftp

import "testing"

// Only requests open a transfer; the other packets of TFTP belong to one.
func TestIsRequest(t *testing.T) {
	for payload, want := range map[string]bool{
		"\x00\x01file\x00octet\x00": true,  // read
		"\x00\x02file\x00octet\x00": true,  // write
		"\x00\x03\x00\x01data":      false, // data
		"\x00\x04\x00\x01":          false, // acknowledgement
		"\x01\x01file":              false,
		"\x00":                      false,
		"":                          false,
	} {
		if got := IsRequest([]byte(payload)); got != want {
			t.Errorf("%q: %t, want %t", payload, got, want)
		}
	}
}
