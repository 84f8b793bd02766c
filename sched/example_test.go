package sched_test

import (
	"fmt"

	"uvs/sched"
)

// Pick for ten connections from three servers whose weights are 4, 3 and 2.
func Example() {
	servers := []sched.Server{{ID: 1, Weight: 4}, {ID: 2, Weight: 3}, {ID: 3, Weight: 2}}
	picker, err := sched.New("wrr", 0, servers, sched.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	cursor := sched.NewCursor("wrr", servers, 0)
	for range 10 {
		fmt.Print(servers[picker.Pick(cursor, sched.Flow{})].ID, " ")
	}
	// Output: 1 1 2 1 2 3 1 2 3 1
}
