package main

import "github.com/spf13/cobra"

// jobVerbs are the verbs for jobs and resources, in the order in which the help lists them.
func jobVerbs(e *env) []*cobra.Command {
	return []*cobra.Command{
		newSubmitCmd(e), newRunCmd(e), newBatchCmd(e), newAllocCmd(e), newProxyCmd(e), newPstreeCmd(e), newTopCmd(e), newBulksubmitCmd(e), newParallelCmd(e), newJobsCmd(e), newWaitCmd(e), newCancelCmd(e), newUpdateCmd(e), newKillCmd(e), newPgrepCmd(e), newPkillCmd(e), newWatchCmd(e), newLogsCmd(e),
		newRetryCmd(e), newExplainCmd(e), newReportCmd(e), newJobCmd(e), newResourceCmd(e), newQueueCmd(e),
	}
}
