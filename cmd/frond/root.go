package main

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// newRoot is the command tree over e, with these verbs.
func newRoot(e *env, verbs []*cobra.Command) *cobra.Command {
	wantVersion := false
	root := &cobra.Command{
		Use:           "frond COMMAND",
		Short:         "Frond runs jobs on what you have: a laptop, a workstation, an allocation",
		Example:       "  frond start -n 4 -- frond run -N4 hostname\n  frond submit --cc=1-100 ./step {cc}\n  frond jobs -a",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wantVersion {
				return showVersion(cmd.Context(), e, false)
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVarP(&wantVersion, "version", "V", false, "show the version")
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&e.color, "color", "auto", "colour the output: `WHEN` is auto, always or never")
	flags.StringVar(&e.target, "instance", "", "talk to this instance: a `NAME|URI|PATH`, a name of 'frond list' or a path of job ids, as f2Gk/f3Xy (default: FROND_URI, else your only one)")
	flags.CountVar(&e.up, "parent", "talk to the instance around that one; may be repeated")
	flags.StringVar(&e.conf, "conf", "", "read the configuration `FILE` after the others ('frond config --help')")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkColor(e.color); err != nil {
			return err
		}
		if err := checkSaid(func(name string) (string, bool) {
			f := cmd.Flags().Lookup(name)
			if f == nil {
				return "", false
			}
			return f.Value.String(), f.Changed
		}); err != nil {
			return err
		}
		return e.configure(cmd)
	}
	root.DisableFlagsInUseLine = true
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .HasAvailableSubCommands}}\n  {{.CommandPath}} [command]{{end}}", "", 1))
	root.SetFlagErrorFunc(unknownOption)
	root.AddCommand(verbs...)
	arrange(root)
	e.takePaths(root)
	e.complete(root)
	return root
}

// verbsFor are the verbs that a command line may need: processes of an instance start without those of users.
func verbsFor(e *env, args []string) []*cobra.Command {
	if len(args) > 0 {
		switch args[0] {
		case "broker":
			return []*cobra.Command{newBrokerCmd(e)}
		case "child":
			return []*cobra.Command{newChildCmd(e)}
		}
	}
	return verbs(e)
}

// verbs are the subcommands of frond. They are added by plain constructor calls.
func verbs(e *env) []*cobra.Command {
	own := []*cobra.Command{
		newStartCmd(e),
		newListCmd(e),
		newSplitCmd(e),
		newShutdownCmd(e),
		newOverlayCmd(e),
		newPingCmd(e),
		newGetattrCmd(e),
		newLsattrCmd(e),
		newUptimeCmd(e),
		newDmesgCmd(e),
		newConfigCmd(e),
		newVersionCmd(e),
		newCompletionCmd(e),
		newManCmd(e),
		newRelayCmd(e),
		newCarryCmd(e),
		newInsteadCmd(e),
		newBrokerCmd(e),
		newChildCmd(e),
	}
	return append(append(own, jobVerbs(e)...), serviceVerbs(e)...)
}

// headings are the headings of the help with their verbs. A verb that stands nowhere is listed under the last.
var headings = []struct {
	id, title string
	verbs     []string
}{
	{"jobs", "Submit and run:", []string{"submit", "run", "bulksubmit", "parallel", "batch", "alloc", "retry"}},
	{"watch", "Look at jobs and change them:", []string{"jobs", "job", "wait", "watch", "logs", "explain", "report", "cancel", "kill", "update",
		"pgrep", "pkill", "pstree", "top"}},
	{"instance", "Instances and their nodes:", []string{"start", "split", "list", "shutdown", "resource", "queue", "uptime", "overlay", "dmesg", "config", "kvs", "event", "exec"}},
	{"more", "More:", nil},
}

// arrange puts the verbs under the headings, and says in Use all that is to be said about options.
func arrange(root *cobra.Command) {
	for _, g := range headings {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
	}
	for _, c := range root.Commands() {
		c.GroupID = headings[len(headings)-1].id
		for _, g := range headings {
			if slices.Contains(g.verbs, c.Name()) {
				c.GroupID = g.id
			}
		}
	}
	root.Flags().SetInterspersed(false)
	root.SetHelpCommandGroupID(headings[len(headings)-1].id)
	tidy(root.Commands())
}

// tidy says in Use all that is to be said about options.
func tidy(cmds []*cobra.Command) []*cobra.Command {
	for _, c := range cmds {
		c.DisableFlagsInUseLine = true
		if c.HasSubCommands() {
			c.Flags().SetInterspersed(false) // options after a word that is no command are that word's
		}
		tidy(c.Commands())
	}
	return cmds
}
