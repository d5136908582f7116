package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/frond-hpc/frond/overlay/boot"
	"github.com/spf13/cobra"
)

func newURICmd(e *env) *cobra.Command {
	local, remote, wait := false, false, false
	cmd := &cobra.Command{
		Use:   "uri [OPTIONS] [TARGET]",
		Short: "Show where an instance is reached",
		Long: `Show the URI by which an instance is reached: the one that commands here talk to, or TARGET's, which is

  NAME        an instance of 'frond list'
  JOBID       the instance that is a job here; JOBID/JOBID is a job of that one, and so on
  pid:PID     the instance in which a process of this host runs
  URI         with --local or --remote, in that form

Exit codes: 0, or 1 when there is no such instance.`,
		Example: "  frond uri --remote\n  frond uri --wait $(frond batch -N2 ./sweep.sh)\n  frond --instance \"$(frond uri pid:4711)\" jobs",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if local && remote {
				return errors.New("--local and --remote exclude each other")
			}
			uri, err := e.targetURI(args)
			for wait && errors.As(err, new(notYet)) && cmd.Context().Err() == nil {
				time.Sleep(waitURI)
				uri, err = e.targetURI(args)
			}
			if err == nil && local {
				uri, err = localURI(uri)
			}
			if err == nil && remote {
				uri, err = remoteURI(uri)
			}
			if err == nil {
				_, err = fmt.Fprintln(e.stdout, uri)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&local, "local", false, "as local://PATH, for commands on the instance's host")
	f.BoolVar(&remote, "remote", false, "as ssh://HOST/PATH, for commands on other hosts")
	f.BoolVar(&wait, "wait", false, "of a job: wait until its instance is there")
	return cmd
}

// waitURI is between two looks whether an instance is there.
const waitURI = 50 * time.Millisecond

func (e *env) targetURI(args []string) (string, error) {
	if len(args) == 0 {
		return e.uri()
	}
	target := args[0]
	if pid, ok := strings.CutPrefix(target, "pid:"); ok {
		return e.processURI(pid)
	}
	scheme, _, ok := strings.Cut(target, ":")
	if ok && !strings.Contains(target, "://") {
		return "", fmt.Errorf("%s: there is no way to find an instance by %q; give a NAME, a URI or pid:PID", target, scheme)
	}
	return e.resolve(target)
}

// processURI is the instance of a process: its FROND_URI, or the instance that it supervises.
func (e *env) processURI(text string) (string, error) {
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 1 {
		return "", fmt.Errorf("pid:%s: %q is no process id", text, text)
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("pid:%d: there is no such process", pid)
	}
	if err != nil {
		return "", fmt.Errorf("pid:%d: %w", pid, err)
	}
	if reg, err := boot.OpenRegistry(e.getenv); err == nil {
		entries, _ := reg.List() // what cannot be read is not found
		for _, ent := range entries {
			if ent.PID == pid && ent.Host == boot.Self().Host {
				return ent.URI, nil
			}
		}
	}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if uri, ok := bytes.CutPrefix(entry, []byte("FROND_URI=")); ok && len(uri) > 0 {
			return string(uri), nil
		}
	}
	return "", fmt.Errorf("pid:%d: this process runs in no instance: it has no FROND_URI", pid)
}

// localURI is a URI on the instance's own host.
func localURI(uri string) (string, error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", uri, err)
	case u.Scheme == "local" || u.Scheme == "ssh":
		return "local://" + u.Path, nil
	}
	return "", fmt.Errorf("%s: %s does not tell the path of the socket", uri, u.Scheme)
}

// remoteURI is a URI for other hosts.
func remoteURI(uri string) (string, error) {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", uri, err)
	case u.Scheme != "local":
		return uri, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find out this host's name: %w", err)
	}
	return "ssh://" + host + u.Path, nil
}
