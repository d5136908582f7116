package jobspec

import "strings"

// Expand replaces the tags {{name}} (blanks inside are ignored) and {cc} in s by what lookup returns for the name. A tag that lookup
// does not know stays as it is. Replacements are not expanded again.
func Expand(s string, lookup func(name string) (string, bool)) string {
	if strings.IndexByte(s, '{') < 0 {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '{')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		name, n := tag(s)
		if n == 0 {
			b.WriteByte('{')
			s = s[1:]
			continue
		}
		if v, ok := lookup(name); ok {
			b.WriteString(v)
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
}

// tag returns the name and the length of the tag at the start of s, length 0 if there is none.
func tag(s string) (name string, n int) {
	if strings.HasPrefix(s, "{cc}") {
		return "cc", len("{cc}")
	}
	if !strings.HasPrefix(s, "{{") {
		return "", 0
	}
	end := strings.Index(s, "}}")
	if end < 0 || strings.IndexByte(s[2:end], '{') >= 0 {
		return "", 0
	}
	return strings.TrimSpace(s[2:end]), end + 2
}

// HasTag tells whether Expand could change s.
func HasTag(s string) bool {
	found := false
	Expand(s, func(string) (string, bool) { found = true; return "", false })
	return found
}
