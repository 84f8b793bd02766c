// Package ipvsadm is the ipvsadm command: words in, operations to the
// director, listings out. It follows ipvsadm 1.31 to the letter, messages,
// exit codes and trailing spaces included, so that ldirectord, mon alerts and
// twenty years of shell scripts run unchanged.
//
// A command line goes through three steps, each in its own file. The scanner
// (scan.go) splits words into options as libpopt does; parse (parse.go) turns
// the options into one request, a plain value checked against the tables of
// grammar.go; the tool (run.go) does what the request says through a Director
// and prints what comes back (list.go, save.go). Parsing asks the network
// nothing as long as addresses are numeric.
//
// Where it leaves ipvsadm 1.31, on purpose:
//   - -h, -v and wrong command lines are answered without a director;
//   - -S saves thresholds, and prints a mark as the unsigned number it is, so
//     that what was saved can be restored whole;
//   - an IPv4-mapped IPv6 address is refused, and so are `[name]` without a
//     port and garbage after an IPv6 prefix length, which 1.31 misreads; a
//     name in brackets stands for an IPv6 address;
//   - a flag that has no name for its scheduler is listed as flag-N, not left
//     out;
//   - what a director cannot do yet it says in its own words;
//   - ipvsadm-restore takes no arguments, and reads its input before it clears
//     the table;
//   - server counters are never cut to 32 bits.
package ipvsadm
