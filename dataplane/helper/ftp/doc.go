// Package ftp is the helper of FTP behind NAT (RFC 959, RFC 2428, RFC 4217): it
// reads the control connection on its way through the director, tells which
// data connections to expect, and lets the server's replies name the VIP.
//
//	ftp.go      Conn, Helper.Process; what the helper asks and notes
//	command.go  the client's lines: PORT, EPRT, PASV, EPSV, AUTH
//	reply.go    the server's lines: 227, 229, 234
//	text.go     numbers and addresses as FTP writes them
//
// A command or reply may stand anywhere in a segment and be cut over several;
// dataplane/helper/stream sees to that. Rules:
//
//   - PORT and EPRT must name the client itself. One that names somebody else (a
//     bounce), or for which no data connection can be expected, is replaced by
//     PORT 0,0,0,0,0,0 (EPRT |1|0.0.0.0|0|), which servers refuse with a 5xx; the
//     client learns of it in the words of its server. So are those that cannot be
//     read, since a server may read more than we do, and LPRT and LPSV (RFC 1639).
//   - 227 and 229 are believed if a PASV or EPSV waits for an answer. Their address
//     must be the server's, the VIP, or 0.0.0.0; with any other, or when no data
//     connection can be expected, the reply is replaced by a 425. Otherwise the
//     VIP, and the port the director gives, are put in place of what the server
//     wrote, whatever the words around it. One that was not asked for passes as it
//     is and nothing is expected of it.
//     If it has no address that can be read, it passes.
//   - Lines within a multi-line reply are not replies.
//   - From 234 after AUTH on (or if the client begins with a TLS record) the
//     connection is encrypted and left alone.
package ftp
