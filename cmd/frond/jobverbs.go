package main

import "github.com/spf13/cobra"

// jobVerbs are the verbs for jobs and resources, in the order in which the help lists them.
func jobVerbs(e *env) []*cobra.Command {
	return tidy([]*cobra.Command{
		newSubmitCmd(e), newRunCmd(e), newJobsCmd(e), newWaitCmd(e), newCancelCmd(e), newKillCmd(e), newLogsCmd(e), newJobCmd(e),
		newResourceCmd(e),
	})
}

// tidy says in Use all that is to be said about options.
func tidy(cmds []*cobra.Command) []*cobra.Command {
	for _, c := range cmds {
		c.DisableFlagsInUseLine = true
		tidy(c.Commands())
	}
	return cmds
}
