package main

import (
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
)

// queueTable is the table of a configuration file in which each queue has a table of its own, with Flux's keys:
//
//	[queues.debug]
//	requires = ["batch"]
//	limits.duration = "1h"
const queueTable = "queues"

// setQueues gives --queue the queues of the files, unless the command line names any.
func setQueues(cmd *cobra.Command, c config.Config) error {
	f := cmd.Flags().Lookup("queue")
	if f.Changed {
		return nil
	}
	texts := map[string]string{}
	places := map[string]config.Place{}
	var order []string
	for _, key := range c.Names() {
		rest, ok := strings.CutPrefix(key, queueTable+".")
		if !ok {
			continue
		}
		name, option, found := strings.Cut(rest, ".")
		if !found {
			return fmt.Errorf("%s: %s: a queue is a table, as in [queues.debug]", c[key].Place, key)
		}
		if _, known := texts[name]; !known {
			order, texts[name], places[name] = append(order, name), name, c[key].Place
		}
		sep := ":"
		if strings.Contains(texts[name], ":") {
			sep = ","
		}
		for _, value := range c[key].Texts {
			if option == "default" {
				if value == "true" {
					texts[name] += sep + "default"
				}
			} else {
				texts[name] += sep + option + "=" + value
			}
			sep = ","
		}
	}
	for _, name := range order {
		if _, err := jobspec.ParseQueue(texts[name]); err != nil {
			return fmt.Errorf("%s: queue %s: %w", places[name], name, err)
		}
		if err := f.Value.Set(texts[name]); err != nil {
			return fmt.Errorf("%s: queue %s: %w", places[name], name, err)
		}
	}
	return nil
}
