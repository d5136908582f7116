package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newRoot is the whole command tree over e. Verbs are added by plain constructor calls, in the order in which the help lists them.
func newRoot(e *env) *cobra.Command {
	wantVersion := false
	root := &cobra.Command{
		Use:           "frond",
		Short:         "Frond runs jobs on what you have: a laptop, a workstation, an allocation",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wantVersion {
				return showVersion(cmd.Context(), e)
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVarP(&wantVersion, "version", "V", false, "show the version")
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&e.color, "color", "auto", "colour the output: auto, always or never")
	flags.StringVar(&e.target, "instance", "", "talk to this instance: a `NAME|URI` of 'frond list' (default: FROND_URI, else your only one)")
	flags.StringVar(&e.conf, "conf", "", "read the configuration `FILE` after the others ('frond config --help')")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return e.configure(cmd) }
	root.AddCommand(verbs(e)...)
	return root
}

// unknownCommand refuses arguments of frond itself: what is no verb is a typing error.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("unknown command %q; 'frond help' lists the commands", args[0])
}

// verbs are the subcommands of frond.
func verbs(e *env) []*cobra.Command {
	own := []*cobra.Command{
		newStartCmd(e),
		newListCmd(e),
		newShutdownCmd(e),
		newOverlayCmd(e),
		newPingCmd(e),
		newGetattrCmd(e),
		newLsattrCmd(e),
		newUptimeCmd(e),
		newDmesgCmd(e),
		newConfigCmd(e),
		newVersionCmd(e),
		newRelayCmd(e),
		newBrokerCmd(e),
	}
	return append(append(own, jobVerbs(e)...), serviceVerbs(e)...)
}
