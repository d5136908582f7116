package main

import "github.com/spf13/cobra"

// newJobCmd is `frond job`, the details of single jobs. Verbs that also stand at the top are here as well, as in older Flux.
func newJobCmd(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "job COMMAND",
		Short:   "Details of single jobs: attach, info, eventlog …",
		Example: "  frond job attach f2Gk\n  frond job eventlog -H f2Gk",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newJobSubmitCmd(e), newJobAttachCmd(e), newJobInfoCmd(e), newJobEventlogCmd(e), newJobWaitEventCmd(e), newJobIDCmd(e),
		newJobRaiseCmd(e), newJobRaiseallCmd(e), newJobKillallCmd(e), newJobUrgencyCmd(e), newJobMemoCmd(e), newJobStatusCmd(e), newJobLastCmd(e), newJobTaskmapCmd(e),
		newJobTimeleftCmd(e), newJobListCmd(e), newJobStatsCmd(e), newJobPurgeCmd(e), newCancelCmd(e), newKillCmd(e), newWaitCmd(e))
	return cmd
}
