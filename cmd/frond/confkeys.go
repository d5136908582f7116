package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/config"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What can stand in a configuration file. A key of start is the default of the option of the same name, one of client that of an
// option of many commands.

// startKeys are the options of `frond start` that a file can set.
var startKeys = []string{"brokers", "epilog", "fanout", "inactive-age-limit", "inactive-num-limit", "lease", "listen", "on-exit", "oversubscribe", "policy", "prolog", "prolog-fail", "property", "resource", "resources", "statedir",
	"transport"}

// formatKeys are the commands that have a key client.format.COMMAND. The variable FROND_COMMAND_FORMAT_DEFAULT goes before it.
var formatKeys = []string{"jobs", "resource-drain", "resource-list", "resource-status"}

// formatKey is the key that means the same as an environment variable.
func formatKey(variable string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(variable, "FROND_"), "_FORMAT_DEFAULT")
	return "client.format." + strings.ToLower(strings.ReplaceAll(name, "_", "-"))
}

// configKeys are all keys.
func configKeys() []config.Key {
	keys := []config.Key{
		{Name: "client.color", Doc: "colour the output: auto, always or never", Default: "auto", Check: checkColor},
		{Name: "client.instance", Doc: "the instance to talk to (a name or a URI) where neither --instance nor FROND_URI says one"},
		{Name: queueTable, Table: true, List: true, Doc: "a table for each queue, [queues.NAME], with default, requires, limits.duration …"},
		{Name: "client.time-limit", Doc: "time limit of jobs that are submitted without -t", Check: checkLimit},
	}
	for _, name := range formatKeys {
		keys = append(keys, config.Key{Name: "client.format." + name, Doc: "what -o of frond " + strings.ReplaceAll(name, "-", " ") + " says: a name or a format", Default: "default"})
	}
	keys = append(keys, startConfigKeys()...)
	slices.SortFunc(keys, func(a, b config.Key) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// startConfigKeys are those of start. A value is tried on the options alone, so that what is wrong with it is said with the file's line.
func startConfigKeys() []config.Key {
	var keys []config.Key
	usage := newStartCmd(&env{}).Flags()
	for _, name := range startKeys {
		f := usage.Lookup(name)
		_, doc := pflag.UnquoteUsage(f)
		fallback, list := f.DefValue, strings.HasSuffix(f.Value.Type(), "Array")
		if list {
			fallback = ""
		}
		keys = append(keys, config.Key{Name: "start." + name, Doc: doc, Default: fallback, List: list, Check: func(value string) error {
			o := &startOptions{}
			cmd := &cobra.Command{}
			o.flags(cmd)
			if name != "statedir" {
				o.statedir = "any" // --on-exit=keep needs one
			}
			if err := cmd.Flags().Set(name, value); err != nil {
				return err
			}
			if _, err := o.leaseSeconds(); err != nil {
				return err
			}
			return o.check()
		}})
	}
	return keys
}

func checkColor(s string) error {
	if s != "auto" && s != "always" && s != "never" {
		return fmt.Errorf("%q: must be auto, always or never", s)
	}
	return nil
}

func checkLimit(s string) error {
	_, err := jobspec.ParseTimeLimit(s)
	return err
}

// configFiles are the files to read, the least important first: the host's, the user's, and the one that FROND_CONF and then --conf name.
func (e *env) configFiles() []config.File {
	files := []config.File{{Path: filepath.Join(e.etc, "config.toml")}}
	dir := e.getenv("XDG_CONFIG_HOME")
	if home := e.getenv("HOME"); !filepath.IsAbs(dir) && home != "" {
		dir = filepath.Join(home, ".config")
	}
	if filepath.IsAbs(dir) {
		files = append(files, config.File{Path: filepath.Join(dir, "frond", "config.toml")})
	}
	if path := e.getenv("FROND_CONF"); path != "" {
		files = append(files, config.File{Path: path, Must: true})
	}
	if e.conf != "" {
		files = append(files, config.File{Path: e.conf, Must: true})
	}
	return files
}

// configure reads the files and makes what they say the defaults of cmd's options.
func (e *env) configure(cmd *cobra.Command) error {
	if noConfig[topVerb(cmd)] {
		return nil
	}
	files := e.configFiles()
	child := cmd.CommandPath() == "frond child"
	if child { // what is for instances that users start is not for jobs
		files = nil
		if e.conf != "" {
			files = []config.File{{Path: e.conf, Must: true}}
		}
	}
	c, err := config.Read(files, configKeys)
	if err != nil {
		return err
	}
	e.config = c
	if v, ok := c["client.color"]; ok && !cmd.Flags().Changed("color") && e.getenv("NO_COLOR") == "" {
		e.color = v.Text()
	}
	if child || cmd.CommandPath() == "frond start" {
		for _, name := range startKeys {
			if err := setDefault(cmd, name, c, "start."+name); err != nil {
				return err
			}
		}
		return setQueues(cmd, c) // its --time-limit is not that of jobs
	}
	if cmd.Flags().Lookup("time-limit") != nil {
		return setDefault(cmd, "time-limit", c, "client.time-limit")
	}
	return nil
}

// noConfig are the verbs that no file concerns, or that show what is wrong with one.
var noConfig = map[string]bool{"broker": true, "relay": true, "instead": true, "version": true, "config": true, "completion": true, "help": true, "man": true,
	cobra.ShellCompRequestCmd: true, cobra.ShellCompNoDescRequestCmd: true}

// topVerb is the verb right below frond.
func topVerb(cmd *cobra.Command) string {
	for cmd.HasParent() && cmd.Parent().HasParent() {
		cmd = cmd.Parent()
	}
	return cmd.Name()
}

// setDefault gives an option the value of a key unless the command line says it, itself or by another name for the same.
func setDefault(cmd *cobra.Command, option string, c config.Config, key string) error {
	v, ok := c[key]
	if !ok {
		return nil
	}
	f := cmd.Flags().Lookup(option)
	if f.Value.String() != f.DefValue || f.Changed {
		return nil
	}
	for _, text := range v.Texts {
		if err := f.Value.Set(text); err != nil {
			return fmt.Errorf("%s: %s: %w", v.Place, key, err)
		}
	}
	return nil
}

// writeConfigKeys lists the keys for a help text.
func writeConfigKeys(w io.Writer) {
	for _, k := range configKeys() {
		fmt.Fprintf(w, "  %-29s %s\n", k.Name, k.Doc)
	}
}
