package parallel

import "strings"

// Quote makes s one word for a POSIX shell, spelled as GNU parallel spells it: what has only letters, digits and + - . / _ stays as it is.
func Quote(s string) string {
	if s == "" {
		return "''"
	}
	for i := range len(s) {
		if !plain(s[i]) {
			q := "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'"
			return strings.TrimSuffix(strings.TrimPrefix(q, "''"), "''")
		}
	}
	return s
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '/' || c == '.' || c == '-' || c == '+'
}
