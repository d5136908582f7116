package main

import (
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/spf13/cobra"
)

func newLoggerCmd(e *env) *cobra.Command {
	rank, severity, app := -1, "info", "logger"
	cmd := &cobra.Command{
		Use:   "logger [OPTIONS] MESSAGE…",
		Short: "Write a line into a broker's log",
		Long: `Write a line into a broker's log, which 'frond dmesg' shows.

Exit codes: 0, or 1 when it could not be written.`,
		Example: "  frond logger -s warning the disk is nearly full",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			level, err := logLevel(severity)
			if err != nil {
				return err
			}
			return e.connected(cmd.Context(), func(c *client.Client) error {
				_, err := call(cmd.Context(), c, api.LogAppend, rankTarget(rank), api.LogAppendReq{Level: level, App: app, Text: strings.Join(args, " ")})
				return err
			})
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false)
	f.IntVarP(&rank, "rank", "r", -1, "of the broker with this `RANK`")
	f.StringVarP(&severity, "severity", "s", "info", "`LEVEL`: emerg, alert, crit, err, warning, notice, info or debug")
	f.StringVarP(&app, "appname", "n", "logger", "`NAME` in front of the message")
	return cmd
}

// logLevel is the broker's level for a syslog severity.
func logLevel(severity string) (string, error) {
	switch strings.ToLower(severity) {
	case "emerg", "alert", "crit", "err", "error":
		return "error", nil
	case "warning", "warn":
		return "warn", nil
	case "notice", "info":
		return "info", nil
	case "debug":
		return "debug", nil
	}
	return "", fmt.Errorf("--severity: %q is none of emerg, alert, crit, err, warning, notice, info, debug", severity)
}
