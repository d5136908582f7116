package parallel

import "strings"

// op is what a replacement string does.
type op uint8

const (
	opArg        op = iota // {}
	opNoExt                // {.}
	opBase                 // {/}
	opDir                  // {//}
	opBaseNoExt            // {/.}
	opSeq                  // {#}
	opSlot                 // {%}
	opPlusDir              // {+/}, and the rest below only with --plus
	opPlusExt              // {+.}
	opPlusExt2             // {+..}
	opPlusExt3             // {+...}
	opNoExt2               // {..}
	opNoExt3               // {...}
	opBaseNoExt2           // {/..}
	opBaseNoExt3           // {/...}
	opTotal                // {##}
	opSeqPadded            // {0#}
	opSlotPadded           // {0%}
	opVar                  // {slot} and others: a shell variable, not quoted
)

// ofJob tells whether the replacement is the job's and not an argument's.
func (o op) ofJob() bool { return o == opSeq || o == opSlot || o >= opTotal }

// plusOps are the replacement strings that --plus adds, without braces.
var plusOps = map[string]op{
	"+/": opPlusDir, "+.": opPlusExt, "+..": opPlusExt2, "+...": opPlusExt3, "..": opNoExt2, "...": opNoExt3, "/..": opBaseNoExt2,
	"/...": opBaseNoExt3, "##": opTotal, "0#": opSeqPadded, "0%": opSlotPadded, "slot": opVar, "host": opVar, "sshlogin": opVar,
	"agrp": opVar, "hgrp": opVar,
}

// plusVars are the variables of opVar.
var plusVars = map[string]string{
	"slot": "${PARALLEL_JOBSLOT}", "host": "${PARALLEL_SSHHOST}", "sshlogin": "${PARALLEL_SSHLOGIN}", "agrp": "${PARALLEL_ARGHOSTGROUPS}",
	"hgrp": "${PARALLEL_HOSTGROUPS}",
}

// apply makes the replacement for one argument.
func (o op) apply(s string) string {
	switch o {
	case opNoExt:
		return cutExts(s, 1)
	case opBase:
		return base(s)
	case opDir:
		return dir(s)
	case opBaseNoExt:
		return cutExts(base(s), 1)
	case opPlusDir:
		return s[:max(strings.LastIndexByte(s, '/'), 0)]
	case opPlusExt:
		_, ext, _ := strings.Cut(s[max(strings.LastIndexByte(s, '.'), 0):], ".")
		return ext
	case opPlusExt2:
		return exts(s, 2)
	case opPlusExt3:
		return exts(s, 3)
	case opNoExt2:
		return cutExts(s, 2)
	case opNoExt3:
		return cutExts(s, 3)
	case opBaseNoExt2:
		return cutExts(base(s), 2)
	case opBaseNoExt3:
		return cutExts(base(s), 3)
	}
	return s
}

func base(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// dotAt is where the n-th dot from the end of s's last component is, -1 if it has fewer.
func dotAt(s string, n int) int {
	at := len(s)
	for range n {
		if at = strings.LastIndexAny(s[:at], "./"); at < 0 || s[at] == '/' {
			return -1
		}
	}
	return at
}

// cutExts is s without its last n extensions, or all of it if it has fewer.
func cutExts(s string, n int) string {
	if at := dotAt(s, n); at >= 0 {
		return s[:at]
	}
	return s
}

// exts is the last n extensions of s without the first dot, empty if it has fewer.
func exts(s string, n int) string {
	if at := dotAt(s, n); at >= 0 {
		return s[at+1:]
	}
	return ""
}

// dir is dirname(1).
func dir(s string) string {
	for len(s) > 1 && s[len(s)-1] == '/' {
		s = s[:len(s)-1]
	}
	at := strings.LastIndexByte(s, '/')
	switch {
	case at < 0:
		return "."
	case at == 0:
		return "/"
	}
	d := strings.TrimRight(s[:at], "/")
	if d == "" {
		return "/"
	}
	return d
}
