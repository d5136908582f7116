package parallel

import "strings"

// Direct splits a command line that a shell would do nothing with but split it, so that it can be executed without one, as make does.
// Ok is false where a shell is needed: for any character that means something to it outside of single quotes, for assignments, and
// for commands that are the shell's own, unless its own and the program behave alike.
func Direct(line string) (argv []string, ok bool) {
	var word []byte
	in := false // within a word
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == ' ' || c == '\t':
			if in {
				argv, word, in = append(argv, string(word)), word[:0], false
			}
		case c == '\'':
			n := strings.IndexByte(line[i+1:], '\'')
			if n < 0 {
				return nil, false
			}
			word, in = append(word, line[i+1:i+1+n]...), true
			i += n + 1
		case c == '"':
			n := strings.IndexByte(line[i+1:], '"')
			if n < 0 || strings.ContainsAny(line[i+1:i+1+n], "$`\\!") {
				return nil, false
			}
			word, in = append(word, line[i+1:i+1+n]...), true
			i += n + 1
		case plain(c) || strings.IndexByte(":@%,", c) >= 0 || c == '=' && len(argv) > 0:
			word, in = append(word, c), true
		default:
			return nil, false
		}
	}
	if in {
		argv = append(argv, string(word))
	}
	return argv, len(argv) > 0 && runsAlike(argv)
}

// shellOwn are the builtins and reserved words of bash, dash, ksh and busybox, and what shows the environment that a shell changes.
var shellOwn = words(`. : [ alias autoload bg bind break builtin caller case cd chdir command compgen complete compopt continue
	coproc declare dirs disown do done echo elif else enable env esac eval exec exit export false fc fg fi for
	function functions getopts hash hist history if in integer jobs kill let local login logout mapfile nameref
	newgrp nohup nounset popd print printenv printf pushd pwd read readarray readonly rename return select set
	shift shopt sleep source stop suspend test then time times trap true type typeset ulimit umask unalias unset
	until vmstate wait whence while`)

func words(text string) map[string]bool {
	set := map[string]bool{}
	for w := range strings.FieldsSeq(text) {
		set[w] = true
	}
	return set
}

// runsAlike tells whether argv[0] is a program, or does the same as a program as within a shell.
func runsAlike(argv []string) bool {
	switch name := argv[0]; name {
	case "":
		return false
	case "true", "false", "sleep", "nohup":
		return !strings.HasPrefix(strings.Join(argv[1:], " "), "-")
	case "echo":
		for _, a := range argv[1:] {
			if strings.HasPrefix(a, "-") || strings.Contains(a, `\`) {
				return false
			}
		}
		return true
	default:
		return !shellOwn[name] && name[0] != '-' && name[0] != '%'
	}
}
