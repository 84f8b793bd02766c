package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// markMain is `uvs mark add|delete|list|import`, for the rules that give
// packets the marks of `ipvsadm -f`.
func markMain(args []string) int {
	do := map[string]func([]string) int{
		"add": markAdd, "delete": markDelete, "list": markList, "import": markImport,
	}
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		fmt.Print(markUsage)
		return markDelete(args)
	case len(args) == 0 || do[args[0]] == nil:
		fmt.Fprintln(os.Stderr, "uvs mark: want add, delete, list or import; see uvs mark -h")
		return 2
	}
	return do[args[0]](args[1:])
}

const markUsage = `uvs mark: which packets have the marks of ipvsadm -f; of the rules that match, the last decides
  uvs mark add TERMS        append a rule
  uvs mark delete TERMS     remove it, or the one of a number, or all
  uvs mark list             print them as they are added
  uvs mark import           read a script of iptables, or the output of iptables-save, from standard input

`

// ruleFlags adds the terms of a rule.
func ruleFlags(fs *flag.FlagSet) *config.MarkRule {
	r := new(config.MarkRule)
	fs.Func("dst", "destination `address` or net, e.g. 192.0.2.0/24", option(&r.Dst, config.ParseNet))
	fs.Func("src", "source `address` or net", option(&r.Src, config.ParseNet))
	fs.Func("proto", "`protocol`: tcp, udp or sctp; default all of them", option(&r.Proto, config.ParseProto))
	fs.Func("dport", "destination `ports`, e.g. 80,443,8000:8100", option(&r.DstPorts, config.ParsePorts))
	fs.Func("sport", "source `ports`", option(&r.SrcPorts, config.ParsePorts))
	fs.StringVar(&r.Interface, "in-interface", "", "`interface` of the director on which packets arrive")
	fs.BoolVar(&r.IPv6, "ipv6", false, "the rule is for IPv6, if no address shows it")
	fs.Func("mark", "`mark` to give, 1 to 4294967295", func(v string) error {
		mark, err := strconv.ParseUint(v, 0, 32)
		r.Mark = uint32(mark)
		if err != nil {
			return errors.New("not a number of 32 bits")
		}
		return nil
	})
	return r
}

func markAdd(args []string) int { return newMarkLine().run(args) }

func newMarkLine() commandLine {
	fs := newFlags("mark add")
	rule := ruleFlags(fs)
	return commandLine{fs, func(words []string) (op config.Op, err error) {
		if len(words) > 0 {
			return op, fmt.Errorf("unexpected argument %q", words[0])
		}
		return config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{*rule}}, nil
	}}
}

// markDelete takes the terms of a rule, or its place in the list.
func markDelete(args []string) int {
	fs := newFlags("mark delete")
	all := fs.Bool("all", false, "every rule")
	number := fs.Int("number", 0, "the rule of this `number` in the list")
	rule := ruleFlags(fs)
	if code, ok := parse(fs, args); !ok {
		return code
	}
	rules := []config.MarkRule{*rule}
	if *all || *number != 0 {
		list, ok := query((*api.Client).Marks)
		switch {
		case !ok:
			return 1
		case *all && len(list) == 0:
			return 0
		case *number < 0 || *number > len(list):
			return failed(fmt.Errorf("there is no mark rule %d, only %d rules", *number, len(list)))
		case *all:
			rules = list
		default:
			rules = list[*number-1 : *number]
		}
	}
	return applyOp(config.Op{Kind: config.DeleteMarks, Marks: rules})
}

// markList prints each rule in the form that `uvs mark add` takes.
func markList(args []string) int {
	if code, ok := parse(newFlags("mark list"), args); !ok {
		return code
	}
	list, ok := query((*api.Client).Marks)
	if !ok {
		return 1
	}
	for _, r := range list {
		fmt.Println(r)
	}
	return 0
}

// markImport imports iptables rules from standard input.
func markImport(args []string) int {
	if code, ok := parse(newFlags("mark import"), args); !ok {
		return code
	}
	rules, skipped, err := config.ParseIPTables(os.Stdin)
	switch {
	case err != nil:
		return failed(fmt.Errorf("nothing imported: %w", err))
	case len(rules) == 0:
		return failed(fmt.Errorf("nothing imported: no rule in the input sets a mark (%d do something else)", skipped))
	case skipped > 0:
		fmt.Printf("%d rules import, %d skipped that set no mark\n", len(rules), skipped)
	}
	return applyOp(config.Op{Kind: config.AddMarks, Marks: rules})
}

func applyOp(op config.Op) int {
	c, err := dial()
	if err == nil {
		err = c.Apply(op)
	}
	return result(err)
}
