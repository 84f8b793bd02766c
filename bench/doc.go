// Package bench is the folder of everything that drives a director from the
// outside. It has no code itself:
//
//   - bench/lab is `uvs lab`: a whole LVS in network namespaces on this machine,
//     with the demo and the grid of offloads, MTUs and methods.
//   - bench/realserver is `uvs rs`: a real server that replies, holds the VIP and
//     decapsulates tunnels.
//   - bench/e2e has the end-to-end tests, with plain `ip`, nginx, curl, vsftpd and
//     the commands of the HOWTO, and the benchmarks against the kernel's forwarding.
package bench
