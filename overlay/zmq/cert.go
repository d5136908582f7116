package zmq

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"github.com/pebbe/zmq4"
)

// Cert is the certificate of one instance: a CURVE key pair in Z85. All its brokers have the same; who has it may connect.
type Cert struct {
	Public, Secret string
}

// keyLen is the length of a Z85 key.
const keyLen = 40

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
	for name, key := range map[string]string{"public": c.Public, "secret": c.Secret} {
		if len(key) != keyLen || zmq4.Z85decode(key) == "" {
			return fmt.Errorf("certificate: the %s key is missing or malformed", name)
		}
	}
	if pub, err := zmq4.AuthCurvePublic(c.Secret); err == nil && pub != c.Public {
		return fmt.Errorf("certificate: the public key does not belong to the secret key")
	}
	return nil
}
