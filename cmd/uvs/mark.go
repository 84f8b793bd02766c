package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"uvs/ctl/api"
	"uvs/ctl/config"
)

// markNoun is for the rules that give packets the marks of `ipvsadm -f`.
func markNoun() *cobra.Command {
	cmd := noun("mark", "set which packets have the marks of ipvsadm -f",
		markAdd().Command, markDelete(), markList(), markImport())
	cmd.Long = "Of the rules that match a packet, the last decides."
	return cmd
}

// ruleFlags adds the terms of a rule.
func ruleFlags(fs *pflag.FlagSet) *config.MarkRule {
	r := new(config.MarkRule)
	fs.Func("dst", "destination `NET` or address, e.g. 192.0.2.0/24", option(&r.Dst, config.ParseNet))
	fs.Func("src", "source `NET` or address", option(&r.Src, config.ParseNet))
	fs.Func("proto", "`PROTOCOL`: tcp, udp or sctp; default all of them", option(&r.Proto, config.ParseProto))
	fs.Func("dport", "destination `PORTS`, e.g. 80,443,8000:8100", option(&r.DstPorts, config.ParsePorts))
	fs.Func("sport", "source `PORTS`", option(&r.SrcPorts, config.ParsePorts))
	fs.StringVar(&r.Interface, "in-interface", "", "`INTERFACE` of the director on which packets arrive")
	fs.BoolVar(&r.IPv6, "ipv6", false, "the rule is for IPv6, if no address shows it")
	fs.Func("mark", "`MARK` to give, 1 to 4294967295", func(v string) error {
		mark, err := strconv.ParseUint(v, 0, 32)
		r.Mark = uint32(mark)
		if err != nil {
			return errors.New("not a number of 32 bits")
		}
		return nil
	})
	return r
}

func markAdd() change {
	cmd := &cobra.Command{
		Use: "add", Short: "append a rule",
		Example: "uvs mark add --dst 192.0.2.0/24 --proto tcp --dport 80,443,8000:8100 --mark 7",
	}
	rule := ruleFlags(cmd.Flags())
	return newChange(cmd, (*api.Client).Apply, func(words []string) (op config.Op, err error) {
		return config.Op{Kind: config.AddMarks, Marks: []config.MarkRule{*rule}}, countWords(cmd, words)
	})
}

func markDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete", Short: "remove the rule with these options, or the one of a number, or all",
		Example: "uvs mark delete --number 1\nuvs mark delete --all",
	}
	all := cmd.Flags().Bool("all", false, "every rule")
	number := cmd.Flags().Int("number", 0, "the rule of this `NUMBER` in the list")
	rule := ruleFlags(cmd.Flags())
	cmd.RunE = func(*cobra.Command, []string) error {
		rules := []config.MarkRule{*rule}
		if *all || *number != 0 {
			list, err := query((*api.Client).Marks)
			switch {
			case err != nil || *all && len(list) == 0:
				return err
			case *number < 0 || *number > len(list):
				return fmt.Errorf("there is no mark rule %d, only %d rules", *number, len(list))
			case *all:
				rules = list
			default:
				rules = list[*number-1 : *number]
			}
		}
		return applyOp(config.Op{Kind: config.DeleteMarks, Marks: rules})
	}
	return cmd
}

// markList prints each rule in the form that `uvs mark add` takes.
func markList() *cobra.Command {
	return listing{
		columns: "NUMBER MARK DST SRC PROTO DPORT SPORT IN-INTERFACE",
		plain:   func(rule any) string { return fmt.Sprint(rule) },
		list: func(_ []string, add addRow) error {
			list, err := query((*api.Client).Marks)
			for i, r := range list {
				add(r, i+1, r.Mark, netText(r.Dst), netText(r.Src), r.Proto.Word(), portsText(r.DstPorts),
					portsText(r.SrcPorts), r.Interface)
			}
			return err
		},
	}.of(&cobra.Command{
		Use: "list", Short: "print the rules as they are added", Example: "uvs mark list\nuvs mark list -o table",
	})
}

// netText returns a net, or "" for any.
func netText(p netip.Prefix) string {
	if !p.IsValid() {
		return ""
	}
	return p.String()
}

func portsText(p config.Ports) string {
	return strings.NewReplacer("[", "", "]", "", " ", ",").Replace(fmt.Sprint([]config.PortRange(p)))
}

func markImport() *cobra.Command {
	return &cobra.Command{
		Use: "import", Short: "read a script of iptables, or the output of iptables-save, from standard input",
		Example: "uvs mark import <marks.iptables",
		RunE: func(*cobra.Command, []string) error {
			rules, skipped, err := config.ParseIPTables(os.Stdin)
			switch {
			case err != nil:
				return fmt.Errorf("nothing imported: %w", err)
			case len(rules) == 0:
				return fmt.Errorf("nothing imported: no rule in the input sets a mark (%d do something else)", skipped)
			case skipped > 0:
				fmt.Printf("%d rules import, %d skipped that set no mark\n", len(rules), skipped)
			}
			return applyOp(config.Op{Kind: config.AddMarks, Marks: rules})
		},
	}
}
