package kvs

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/frond-hpc/frond/overlay/wire"
)

// Parse splits a key into its names: "a.b.c" and ".a..b.c." are the same, "." is the root and has none.
func Parse(key string) ([]string, error) {
	switch {
	case key == "":
		return nil, wire.Errorf(wire.Invalid, "a key must not be empty (\".\" is the root)")
	case len(key) > MaxKey:
		return nil, wire.Errorf(wire.TooLarge, "a key of %d bytes is over the limit of %d: %.40q…", len(key), MaxKey, key)
	case !utf8.ValidString(key):
		return nil, wire.Errorf(wire.Invalid, "key %.80q is not UTF-8", key)
	case strings.ContainsFunc(key, unicode.IsControl):
		return nil, wire.Errorf(wire.Invalid, "key %.80q has control characters", key)
	}
	var path []string
	for name := range strings.SplitSeq(key, ".") {
		if name != "" {
			path = append(path, name)
		}
	}
	if len(path) > MaxDepth {
		return nil, wire.Errorf(wire.TooLarge, "key %.40q… has %d names, which is over the limit of %d", key, len(path), MaxDepth)
	}
	return path, nil
}

// checkSpaceName refuses what cannot be the name of a namespace.
func checkSpaceName(name string) error {
	switch {
	case name == "":
		return wire.Errorf(wire.Invalid, "a namespace's name must not be empty")
	case len(name) > 255:
		return wire.Errorf(wire.TooLarge, "a namespace's name of %d bytes is over the limit of 255", len(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) || strings.Contains(name, "::"):
		return wire.Errorf(wire.Invalid, "%q cannot be the name of a namespace: it has control characters, \"::\" or is not UTF-8", name)
	}
	return nil
}

func join(path []string) string { return strings.Join(path, ".") }

// LinkText is a link's target as it is stored and shown.
func LinkText(space, key string) string {
	if space == "" {
		return key
	}
	return space + "::" + key
}

// splitLink is the other way.
func splitLink(text string) (space, key string) {
	if s, k, ok := strings.Cut(text, "::"); ok {
		return s, k
	}
	return "", text
}
