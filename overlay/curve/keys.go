package curve

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/sys/unix"
)

// Keys is an instance's certificate.
type Keys struct{ Public, Secret [32]byte }

// LoadKeys reads a certificate's file, as overlay/zmq writes it. It must be the user's and nobody else may have access to it. An error
// never contains a key.
func LoadKeys(path string) (Keys, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Keys{}, fmt.Errorf("read certificate: %w", err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Keys{}, fmt.Errorf("read certificate %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return Keys{}, fmt.Errorf("certificate %s is no file", path)
	case int(st.Uid) != os.Getuid():
		return Keys{}, fmt.Errorf("certificate %s belongs to another user", path)
	case st.Mode&0o077 != 0:
		return Keys{}, fmt.Errorf("certificate %s: others have access to it (mode %o); run 'chmod 600 %s'", path, st.Mode&0o777, path)
	}
	data := make([]byte, 4096)
	n, _ := f.Read(data)
	k, err := ParseKeys(data[:n])
	if err != nil {
		return k, fmt.Errorf("certificate %s: %w", path, err)
	}
	return k, nil
}

// ParseKeys reads a certificate. Unknown lines are ignored.
func ParseKeys(data []byte) (Keys, error) {
	var k Keys
	found := 0
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		name, text, _ := strings.Cut(strings.TrimSpace(s.Text()), " ")
		to := map[string]*[32]byte{"public": &k.Public, "secret": &k.Secret}[name]
		if to == nil {
			continue
		}
		if !decodeZ85(to[:], text) {
			return Keys{}, fmt.Errorf("the %s key is malformed", name)
		}
		found++
	}
	if found < 2 {
		return Keys{}, errors.New("a key is missing")
	}
	pub, err := curve25519.X25519(k.Secret[:], curve25519.Basepoint)
	if err != nil || !bytes.Equal(pub, k.Public[:]) {
		return Keys{}, errors.New("the public key does not belong to the secret key")
	}
	return k, nil
}

// z85 is the alphabet of ZeroMQ's RFC 32, which writes 4 bytes with 5 characters.
const z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"

// decodeZ85 fills dst and tells whether text was as long and well formed.
func decodeZ85(dst []byte, text string) bool {
	if len(text)*4 != len(dst)*5 {
		return false
	}
	for i := range len(dst) / 4 {
		var v uint64
		for j := range 5 {
			d := strings.IndexByte(z85, text[5*i+j])
			if d < 0 {
				return false
			}
			v = v*85 + uint64(d)
		}
		if v > 1<<32-1 {
			return false
		}
		for j := range 4 {
			dst[4*i+j] = byte(v >> (24 - 8*j))
		}
	}
	return true
}
