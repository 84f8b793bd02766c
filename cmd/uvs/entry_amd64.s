#include "textflag.h"

// uvs_entry is the first instruction of the program (link option -E, see the Makefile).
// The Go runtime reserves 1.2 GiB of address space before any Go code runs, and a varying
// part of another 0.4 GiB a moment later. It prints a stack trace if it cannot.
TEXT uvs_entry(SB), NOSPLIT|NOFRAME, $0
	SUBQ	$16, SP	// a struct rlimit
	MOVL	$97, AX	// getrlimit
	MOVL	$9, DI	// RLIMIT_AS
	MOVQ	SP, SI
	SYSCALL
	MOVQ	0(SP), CX	// rlim_cur
	ADDQ	$16, SP
	CMPQ	CX, $0x7fffffff
	JHI	start
	MOVL	$1, AX	// write
	MOVL	$2, DI
	MOVQ	·tooLittleAddressSpace+0(SB), SI
	MOVQ	·tooLittleAddressSpace+8(SB), DX
	SYSCALL
	MOVL	$231, AX	// exit_group
	MOVL	$1, DI
	SYSCALL
start:
	JMP	_rt0_amd64_linux(SB)
