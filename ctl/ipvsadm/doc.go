// Package ipvsadm is the ipvsadm command. It follows ipvsadm 1.31 exactly, including
// messages, exit codes and trailing spaces, so that ldirectord, mon alerts and old shell
// scripts run unchanged.
//
// A command line goes through three steps. The scanner (scan.go) splits words into options
// as libpopt does. parse (parse.go) turns the options into a request, checked against the
// tables in grammar.go. The tool (run.go) applies the request through a Director and prints
// the answer (list.go, save.go). Parsing sends nothing to the network if addresses are
// numeric.
//
// It differs from ipvsadm 1.31 on purpose:
//   - -h, -v and wrong command lines need no director;
//   - -S saves thresholds, and prints a mark as an unsigned number, so that a restore is
//     complete;
//   - it refuses IPv4-mapped IPv6 addresses, `[name]` without a port, and characters after an
//     IPv6 prefix length, which 1.31 misreads; a name in brackets means an IPv6 address;
//   - the director refuses VIPs and servers that are not unicast, and --pe sip for TCP;
//   - a flag without a name for its scheduler is listed as flag-N, not omitted;
//   - if ipvsadm has no message for an error, the director's is printed;
//   - ipvsadm-restore takes no arguments, and reads its input before it clears the table;
//   - server counters are not truncated to 32 bits.
package ipvsadm
