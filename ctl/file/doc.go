// Package file reads and writes configuration files. A file is YAML, JSON, or the commands
// that `ipvsadm -S` and `uvs save --commands` print; its content decides which. It becomes a
// config.Document by the same strict rules as a request's JSON (config.Decode). What is wrong
// with it is an error with the file, the line and the line's text.
//
// The scanner of goccy/go-yaml makes the tokens of YAML; the parser of this package makes a
// tree of nodes of them. goccy's own parser takes quadratic time and memory: 40 s and 16 GB
// for a mapping with 65,536 keys. It also recurses without a bound. Of YAML's syntax this
// package does not take tags (!x), directives (%x), complex keys (? x) and several documents.
package file
