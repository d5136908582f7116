package jobspec

import (
	"strconv"
	"strings"
)

// argvTag is the command that stands for an element's parameters as a whole.
const argvTag = "{{argv}}"

// IsArgv tells whether a command is ["{{argv}}"]: an element's parameters are its command.
func IsArgv(command []string) bool { return len(command) == 1 && command[0] == argvTag }

// Param is what the tag {{param.N}}, given as "param.N", stands for; ok is false if name is none, or there is no such parameter.
func Param(params []string, name string) (value string, ok bool) {
	number, ok := strings.CutPrefix(name, "param.")
	if !ok {
		return "", false
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n >= len(params) || number[0] == '+' {
		return "", false
	}
	return params[n], true
}

// WithParams is a command with an element's parameters put in. Other tags stay.
func WithParams(command, params []string) []string {
	if IsArgv(command) {
		return params
	}
	out := make([]string, len(command))
	for i, arg := range command {
		out[i] = Expand(arg, func(name string) (string, bool) { return Param(params, name) })
	}
	return out
}
