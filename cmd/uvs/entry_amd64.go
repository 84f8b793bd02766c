package main

// tooLittleAddressSpace is what uvs_entry prints.
//
//lint:ignore U1000 entry_amd64.s reads it
var tooLittleAddressSpace = "uvs: less than 2 GiB of address space (ulimit -v): " +
	"Go reserves 1.2 GiB; use ulimit -v unlimited\n"
