package zmq

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pebbe/zmq4"
)

// Cert is the certificate of one instance: a CURVE key pair in Z85. All its brokers have the same; who has it may connect.
type Cert struct {
	Public, Secret string
}

// keyLen is the length of a key in Z85 (ZeroMQ's RFC 32), which writes 32 bytes with 40 of these characters.
const (
	keyLen      = 40
	z85Alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
)

func isZ85(key string) bool {
	return len(key) == keyLen && strings.Trim(key, z85Alphabet) == ""
}

// NewCert makes a certificate.
func NewCert() (Cert, error) {
	pub, sec, err := zmq4.NewCurveKeypair()
	if err != nil {
		return Cert{}, fmt.Errorf("make certificate: %w", err)
	}
	return Cert{pub, sec}, nil
}

// Marshal gives the form for a file, which must have mode 0600.
func (c Cert) Marshal() []byte {
	return fmt.Appendf(nil, "# frond certificate, secret: keep mode 0600\npublic %s\nsecret %s\n", c.Public, c.Secret)
}

// ParseCert reads what Marshal wrote. Unknown lines are ignored. An error never contains a key.
func ParseCert(b []byte) (Cert, error) {
	var c Cert
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		name, key, _ := strings.Cut(strings.TrimSpace(s.Text()), " ")
		switch name {
		case "public":
			c.Public = key
		case "secret":
			c.Secret = key
		}
	}
	return c, c.check()
}

func (c Cert) check() error {
	if !isZ85(c.Public) || !isZ85(c.Secret) {
		return errors.New("certificate: a key is missing or malformed")
	}
	pub, err := zmq4.AuthCurvePublic(c.Secret)
	if err != nil {
		return fmt.Errorf("certificate: check the secret key: %w", err)
	}
	if pub != c.Public {
		return errors.New("certificate: the public key does not belong to the secret key")
	}
	return nil
}
