package jobspec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ID is a job id: a FLUID (Flux RFC 19) without generator field, written in F58. In JSON it is an integer, as in Flux's job lists;
// it can exceed 2^53, so readers must not take it as a float.
type ID uint64

const (
	f58Digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
	f58Prefix = "ƒ"
	f58Max    = 12 // digits accepted; 2^64-1 has 11
)

// f58Value has the value of each base-58 digit plus one, 0 for other bytes.
var f58Value = func() (t [256]uint8) {
	for i := range len(f58Digits) {
		t[f58Digits[i]] = uint8(i + 1)
	}
	return t
}()

// String returns the id in F58: "ƒuZZybuNNy".
func (id ID) String() string { return id.f58(f58Prefix) }

// F58Plain returns the id in F58 with a plain f, for places where text must be ASCII: "fuZZybuNNy".
func (id ID) F58Plain() string { return id.f58("f") }

func (id ID) f58(prefix string) string {
	var buf [16]byte
	i := len(buf)
	for v := uint64(id); ; v /= 58 {
		i--
		buf[i] = f58Digits[v%58]
		if v < 58 {
			break
		}
	}
	i -= copy(buf[i-len(prefix):i], prefix)
	return string(buf[i:])
}

// Dec returns the id in decimal.
func (id ID) Dec() string { return strconv.FormatUint(uint64(id), 10) }

// Hex returns the id as "0x17e9fb8df16c2e".
func (id ID) Hex() string { return "0x" + strconv.FormatUint(uint64(id), 16) }

// DotHex returns the id as four groups of four digits: "0017.e9fb.8df1.6c2e".
func (id ID) DotHex() string {
	v := uint64(id)
	return fmt.Sprintf("%04x.%04x.%04x.%04x", v>>48, v>>32&0xffff, v>>16&0xffff, v&0xffff)
}

// KVS returns the key of the job's directory in Flux's KVS: "job." and DotHex.
func (id ID) KVS() string { return "job." + id.DotHex() }

// Encode writes the id in one of Flux's encodings: dec, hex, dothex, kvs, f58, f58plain.
func (id ID) Encode(encoding string) (string, error) {
	switch encoding {
	case "dec":
		return id.Dec(), nil
	case "hex":
		return id.Hex(), nil
	case "dothex":
		return id.DotHex(), nil
	case "kvs":
		return id.KVS(), nil
	case "f58":
		return id.String(), nil
	case "f58plain":
		return id.F58Plain(), nil
	}
	return "", fmt.Errorf("unknown encoding %q of a job id: use dec, hex, dothex, kvs, f58 or f58plain", encoding)
}

// ParseID reads an id in any of the encodings that Encode writes, with blanks around it (RFC 19 in the decoding order of Flux).
func ParseID(text string) (ID, error) {
	s := strings.TrimSpace(text)
	s = strings.TrimPrefix(s, "job.")
	var id uint64
	var ok bool
	switch {
	case strings.Contains(s, "."):
		id, ok = parseDotHex(s)
	case strings.HasPrefix(s, f58Prefix):
		id, ok = parseF58(s[len(f58Prefix):])
	case strings.HasPrefix(s, "f"):
		id, ok = parseF58(s[1:])
	case strings.HasPrefix(s, "0x"):
		v, err := strconv.ParseUint(s[2:], 16, 64)
		id, ok = v, err == nil && !strings.Contains(s, "_")
	default:
		v, err := strconv.ParseUint(s, 10, 64)
		id, ok = v, err == nil
	}
	if !ok {
		return 0, fmt.Errorf("%q is not a job id; it looks like %s or %d", clip(text), ID(6731191091817518), uint64(6731191091817518))
	}
	return ID(id), nil
}

func parseF58(s string) (uint64, bool) {
	if s == "" || len(s) > f58Max {
		return 0, false
	}
	var v uint64
	for i := range len(s) {
		d := uint64(f58Value[s[i]])
		if d == 0 || v > (math.MaxUint64-(d-1))/58 {
			return 0, false
		}
		v = v*58 + d - 1
	}
	return v, true
}

func parseDotHex(s string) (uint64, bool) {
	groups := strings.Split(s, ".")
	if len(groups) != 4 {
		return 0, false
	}
	var v uint64
	for _, g := range groups {
		n, err := strconv.ParseUint(g, 16, 16)
		if err != nil || len(g) > 4 {
			return 0, false
		}
		v = v<<16 | n
	}
	return v, true
}

// clip shortens text for error messages.
func clip(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}
