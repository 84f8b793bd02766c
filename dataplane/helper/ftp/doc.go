// Package ftp helps FTP through NAT (RFC 959, RFC 2428, RFC 4217). It reads the
// control connection on its way through the director, asks for the data connections
// that it announces, and writes the VIP into the server's replies.
//
//	ftp.go      State, Helper.Process; what the helper asks for and counts
//	command.go  the client's lines: PORT, EPRT, PASV, EPSV, AUTH
//	reply.go    the server's lines: 227, 229, 234
//	text.go     numbers and addresses in the form that FTP gives them
//
// A command or reply may stand anywhere in a segment and extend over several; package
// stream takes care of that. Rules:
//
//   - PORT and EPRT must name the client itself. PORT 0,0,0,0,0,0 (EPRT |1|0.0.0.0|0|)
//     replaces one that names another host (a bounce, RFC 2577 section 3), or whose data
//     connection cannot be expected. Servers refuse that with a 5xx, so the client
//     learns of it in the words of its server. The same happens to a PORT or EPRT
//     that cannot be read, because a server may read more than this package, and to
//     LPRT and LPSV (RFC 1639).
//   - 227 and 229 count if a PASV or EPSV waits for a reply; some servers send for one
//     command the reply of the other. Their address must be the
//     server's, the VIP, or 0.0.0.0. With any other address, or if no data connection can
//     be expected, a 425 replaces the reply. Otherwise the VIP and the port that the
//     director chose replace what the server wrote, whatever the words around it are. A
//     reply without a command passes unchanged, and nothing is expected. So does one
//     without a readable address.
//   - Lines within a multi-line reply are not replies.
//   - After 234 as the reply to AUTH, or if the client begins with a TLS record, the
//     connection is encrypted and passes untouched.
package ftp
