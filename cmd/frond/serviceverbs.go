package main

import "github.com/spf13/cobra"

// serviceVerbs are the verbs for the services behind jobs, in the order in which the help lists them.
func serviceVerbs(e *env) []*cobra.Command {
	return tidy([]*cobra.Command{newKvsCmd(e), newEventCmd(e), newExecCmd(e), newHostlistCmd(e), newIdsetCmd(e), newURICmd(e), newRCmd(e), newEnvCmd(e),
		newSetattrCmd(e), newLoggerCmd(e), newLptestCmd(e)})
}
