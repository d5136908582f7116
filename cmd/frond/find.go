package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/frond-hpc/frond/overlay/boot"
)

// How a command finds its instance: --instance, else FROND_URI, else what the configuration says, else the user's only one
// that is alive. None is ever started here.

// uri is where the instance is.
func (e *env) uri() (string, error) {
	var uri string
	var err error
	if e.target != "" {
		uri, err = e.resolve(e.target)
	} else {
		uri, err = e.current()
	}
	for up := 0; up < e.up && err == nil; up++ {
		ctx, cancel := context.WithTimeout(context.Background(), pathLimit)
		parent, perr := e.parentOf(ctx, uri)
		cancel()
		if uri, err = parent, perr; err == nil && uri == "" {
			err = errors.New("--parent: there is no instance around this one")
		}
	}
	return uri, err
}

// current is the instance that commands talk to where --instance does not say another.
func (e *env) current() (string, error) {
	if uri := e.getenv("FROND_URI"); uri != "" {
		return uri, nil
	}
	if v, ok := e.config["client.instance"]; ok {
		uri, err := e.resolve(v.Text())
		if err != nil {
			err = fmt.Errorf("%s: client.instance: %w", v.Place, err)
		}
		return uri, err
	}
	return e.onlyInstance()
}

// resolve makes a URI of a URI or of the name of a registered instance.
func (e *env) resolve(target string) (string, error) {
	if strings.Contains(target, "://") {
		return target, nil
	}
	reg, err := boot.OpenRegistry(e.getenv)
	if err != nil {
		return "", err
	}
	entry, err := reg.Get(target)
	if err != nil {
		if uri, ok, perr := e.resolvePath(target); ok {
			if isNotFound(perr) && !strings.Contains(target, "/") { // a word may be meant as either
				perr = fmt.Errorf("%w, and no instance is called %s; 'frond list' shows them", perr, target)
			}
			return uri, perr
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New("no instance is called " + target + "; 'frond list' shows them")
	}
	if err != nil {
		return "", err
	}
	return reach(entry, boot.Self())
}

// reach is the URI by which an instance is reached from here: its socket on its own host, its listener from elsewhere.
func reach(entry boot.Entry, here boot.Process) (string, error) {
	switch {
	case entry.Host == here.Host || entry.Host == "":
		return entry.URI, nil
	case entry.TCP != "":
		return entry.TCP, nil
	}
	return "", fmt.Errorf("instance %s is on host %s: use --instance %s", entry.Name, entry.Host, sshURI(entry))
}

// sshURI is how to reach an instance on another host that has no listener.
func sshURI(entry boot.Entry) string {
	return "ssh://" + entry.Host + strings.TrimPrefix(entry.URI, "local://")
}

// onlyInstance is the user's only instance that is alive. One on this host, of which that is certain, goes before those on others.
func (e *env) onlyInstance() (string, error) {
	reg, err := boot.OpenRegistry(e.getenv)
	if err != nil {
		return "", e.noInstance()
	}
	all, err := reg.List()
	if err != nil {
		return "", err
	}
	here := boot.Self()
	all = slices.DeleteFunc(all, func(entry boot.Entry) bool { return surelyDead(entry, here) })
	near := slices.DeleteFunc(slices.Clone(all), func(entry boot.Entry) bool { return entry.Live(here) == boot.Unknown })
	switch {
	case len(near) == 1:
		return near[0].URI, nil
	case len(near) == 0 && len(all) == 1:
		return reach(all[0], here)
	case len(all) == 0:
		return "", e.noInstance()
	}
	return "", e.severalInstances(all, here)
}

// surelyDead tells whether nothing of an instance is left on this host, where it was.
func surelyDead(entry boot.Entry, here boot.Process) bool {
	return entry.Live(here) == boot.Dead && !(entry.BootID == here.BootID && boot.Held(entry.RunDir))
}

// errNoInstance is what the errors of noInstance are.
var errNoInstance = errors.New("no instance of yours is running")

// noInstance says so, with a line to copy for an instance that does this and ends, and one for an instance that stays.
func (e *env) noInstance() error {
	again := "frond jobs"
	if len(e.args) > 0 && e.args[0] != "shutdown" && e.args[0] != "jobs" {
		again = "frond " + shellJoin(e.args)
	}
	return fmt.Errorf("%w; one that ends with the command, or one that stays:\n"+
		"  frond start -- %s\n"+
		"  frond start --detach --name work && %s", errNoInstance, again, again)
}

// severalInstances lists them; which one is meant must be said.
func (e *env) severalInstances(all []boot.Entry, here boot.Process) error {
	var text strings.Builder
	fmt.Fprintf(&text, "%d instances of yours are running; say which one is meant with --instance or FROND_URI:", len(all))
	now := float64(time.Now().UnixMicro()) / 1e6
	for _, entry := range all {
		name := entry.Name
		if _, err := reach(entry, here); err != nil {
			name = sshURI(entry)
		}
		fmt.Fprintf(&text, "\n  --instance %-16s  on %s, %s old", name, entry.Host, ageText(now-entry.Start))
	}
	return errors.New(text.String())
}

// shellJoin writes arguments so that a shell reads them as they are.
func shellJoin(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		quoted[i] = shellQuote(a)
	}
	return strings.Join(quoted, " ")
}

// shellQuote quotes a word if it needs it. Control characters are written in the $'…' form, which bash, zsh and ksh read.
func shellQuote(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%^"
	switch {
	case s != "" && strings.Trim(s, plain) == "":
		return s
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }):
		var b strings.Builder
		for _, c := range []byte(s) {
			switch {
			case c == '\\' || c == '\'':
				b.WriteString("\\" + string(rune(c)))
			case c < ' ' || c == 0x7f:
				fmt.Fprintf(&b, "\\%03o", c)
			default:
				b.WriteByte(c)
			}
		}
		return "$'" + b.String() + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
