package main

import (
	"fmt"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// standbyMain leaves the VIPs to another director: uvs standby.
func standbyMain(args []string) int { return setRole("standby", config.Standby, args) }

// activeMain ends that: uvs active.
func activeMain(args []string) int { return setRole("active", config.Active, args) }

func setRole(name string, verb config.OpKind, args []string) int {
	if code, ok := parse(newFlags(name), args); !ok {
		return code
	}
	return applyOp(config.Op{Kind: verb})
}

// roleMain prints the director's role: uvs role.
func roleMain(args []string) int {
	if code, ok := parse(newFlags("role"), args); !ok {
		return code
	}
	info, ok := query((*api.Client).Info)
	if !ok {
		return 1
	}
	fmt.Println(info.Role)
	return 0
}
