package main

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/spf13/cobra"
)

const configLong = `Show what the configuration files say. They are TOML and optional, and later ones go before earlier ones:

  /etc/frond/config.toml
  ~/.config/frond/config.toml   (in $XDG_CONFIG_HOME if that is set)
  the file that FROND_CONF names, then that of --conf

What is given on the command line goes before all of them, and so do environment variables that mean the same. A file may say
"version = 1" on top: one that needs a newer frond is refused. The keys:

`

func newConfigCmd(e *env) *cobra.Command {
	var keys strings.Builder
	writeConfigKeys(&keys)
	cmd := &cobra.Command{
		Use:     "config COMMAND",
		Short:   "Show what the configuration files say",
		Long:    configLong + strings.TrimRight(keys.String(), "\n"),
		Example: "  frond config show --origin\n  frond config get start.brokers",
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigShowCmd(e), newConfigGetCmd(e))
	return cmd
}

type configShow struct{ origin, json bool }

func newConfigShowCmd(e *env) *cobra.Command {
	o := &configShow{}
	cmd := &cobra.Command{
		Use:     "show [--origin] [--json]",
		Short:   "Show all keys with the values that count",
		Long:    "Show all keys that have a value, each with the one that counts.\n\nExit codes: 0, or 1 when a file is wrong.",
		Example: "  frond config show --origin",
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return o.run(e) },
	}
	cmd.Flags().BoolVar(&o.origin, "origin", false, "say where each value comes from: file and line, or default")
	cmd.Flags().BoolVar(&o.json, "json", false, "print a JSON object: key to {value, origin}")
	return cmd
}

// setting is one key as it counts.
type setting struct {
	Value  any    `json:"value"` // a text, or a list of them
	Origin string `json:"origin"`
}

// settings are all keys that have a value, and their names in order.
func (e *env) settings() (map[string]setting, []string, error) {
	c, err := config.Read(e.configFiles(), configKeys)
	if err != nil {
		return nil, nil, err
	}
	all := map[string]setting{}
	for _, k := range configKeys() {
		if k.Default != "" {
			all[k.Name] = setting{k.Default, "default"}
		}
	}
	for name, v := range c {
		s := setting{v.Text(), v.Place.String()}
		if len(v.Texts) != 1 {
			s.Value = v.Texts
		}
		all[name] = s
	}
	names := make(map[string]string, len(all))
	for n := range all {
		names[n] = ""
	}
	return all, formatNames(names), nil
}

func (o *configShow) run(e *env) error {
	all, names, err := e.settings()
	if err != nil {
		return err
	}
	if o.json {
		return writeJSON(e.stdout, all)
	}
	out := bufio.NewWriter(e.stdout)
	for _, n := range names {
		line := n + " = " + tomlText(all[n].Value)
		if o.origin {
			line = fmt.Sprintf("%-45s # %s", line, all[n].Origin)
		}
		writeLine(out, line)
	}
	return flush(out)
}

// tomlText writes a value as it may stand in a file.
func tomlText(v any) string {
	switch v := v.(type) {
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = tomlText(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case string:
		if _, err := strconv.Atoi(v); err == nil || v == "true" || v == "false" {
			return v
		}
		return strconv.Quote(v)
	}
	return fmt.Sprint(v)
}

func newConfigGetCmd(e *env) *cobra.Command {
	fallback := ""
	cmd := &cobra.Command{
		Use:     "get [--default=VALUE] KEY",
		Short:   "Print the value of one key",
		Long:    "Print the value of one key, of a list each part on a line.\n\nExit codes: 0, or 1 when a file is wrong, the key unknown, or without a value.",
		Example: "  frond config get start.brokers",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return configGet(e, args[0], fallback, cmd.Flags().Changed("default"))
		},
	}
	cmd.Flags().StringVarP(&fallback, "default", "d", "", "print `VALUE` where the key has none")
	return cmd
}

func configGet(e *env, key, fallback string, has bool) error {
	all, _, err := e.settings()
	if err != nil {
		return err
	}
	s, ok := all[key]
	switch {
	case ok:
		if list, is := s.Value.([]string); is {
			s.Value = strings.Join(list, "\n")
		}
		_, err = fmt.Fprintln(e.stdout, s.Value)
		return err
	case has:
		_, err = fmt.Fprintln(e.stdout, fallback)
		return err
	}
	for _, k := range configKeys() {
		if k.Name == key {
			return fmt.Errorf("%s has no value", key)
		}
	}
	return fmt.Errorf("there is no key %q; 'frond config --help' lists them", key)
}
