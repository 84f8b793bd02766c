package config

// Run are the options of `uvs run`, with the names they have in a file.
type Run struct {
	Interfaces []string `json:"interfaces,omitempty"`
}
