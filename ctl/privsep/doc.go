// Package privsep separates the director into two processes, as OpenSSH and relayd do.
//
//	uvs run (privileged, its PID is that of the director)
//	  reads files, opens sockets, changes nftables and neighbours
//	        │ rpc.go: requests by net/rpc, descriptors by SCM_RIGHTS
//	uvs-director (an unprivileged user, no capability)
//	  everything else: frames, connections, the API
//
// The unprivileged process asks for what Part has, and for nothing else: it names no path,
// no nftables object, no route. It ends when the privileged one ends.
//
// Both give up what they do not need (sandbox.go). A system call outside its list ends a process
// (syscalls.go).
package privsep
