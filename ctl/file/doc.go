// Package file reads and writes configuration files. A file is YAML, JSON, or the commands
// that `ipvsadm -S` and `uvs save --commands` print; its content decides which. It becomes a
// config.Document by the same strict rules as a request's JSON (config.Decode). What is wrong
// with it is an error with the file, the line and the line's text.
//
// The parser of goccy/go-yaml reads YAML. It takes quadratic time for some files, recurses
// without a bound, and takes some text that is not YAML; all that is refused before. Of YAML's
// syntax this package does not take tags (!x), directives (%x), complex keys (? x) and several
// documents.
package file
