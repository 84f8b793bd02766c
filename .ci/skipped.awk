# Reads `go test -v`. Prints a line for each package, what tests of failed packages printed, and at the end which
# tests skipped and why. A test that passed in another run did not skip.

/^=== / { test = $3; next } # what follows is printed by this test
/^ *--- PASS: / { state[$3] = "passed"; next }
/^ *--- SKIP: / { state[$3] = "skipped"; next }
/^PASS$/ { next }

/^(ok  |FAIL|\?   )\t/ {
	if (/^FAIL/)
		printf "%s", printed
	print
	fflush()
	for (name in state) {
		if (state[name] == "passed")
			passed[$2 " " name]
		else if (!(($2, name) in listed)) {
			listed[$2, name]
			name_of[++n] = $2 " " name
			reason_of[n] = name in reason ? reason[name] : "no reason"
		}
	}
	printed = ""
	split("", state)
	split("", reason)
	next
}

{
	printed = printed $0 "\n"
	if (match($0, /^ +[a-z0-9_]*_test\.go:[0-9]+: /))
		reason[test] = substr($0, RLENGTH + 1)
}

END {
	printf "%s", printed
	for (i = 1; i <= n; i++) {
		if (name_of[i] in passed)
			continue
		split(name_of[i], part, " ")
		why = reason_of[i]
		if (!(why in tests))
			order[++reasons] = why
		if (package[why] != part[1])
			tests[why] = tests[why] "\n    " part[1] ":"
		package[why] = part[1]
		tests[why] = tests[why] " " part[2]
		skipped++
	}
	print skipped ? "\n" skipped " tests skipped:" : "\nno test skipped"
	for (i = 1; i <= reasons; i++)
		print "  " order[i] tests[order[i]]
}
