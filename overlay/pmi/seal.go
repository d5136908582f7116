package pmi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// Key is a pair of X25519 keys: what is sealed for its public half can be opened with it alone.
type Key struct{ private *ecdh.PrivateKey }

// NewKey makes one.
func NewKey() (Key, error) {
	p, err := ecdh.X25519().GenerateKey(rand.Reader)
	return Key{p}, err
}

// Public is the public half, as a word without blanks.
func (k Key) Public() string {
	return base64.RawURLEncoding.EncodeToString(k.private.PublicKey().Bytes())
}

// shared makes AES-GCM of what two keys have in common. Each key of a sender is used once, so a nonce of zeros is never used again.
func shared(mine *ecdh.PrivateKey, theirs *ecdh.PublicKey, sender []byte) (cipher.AEAD, error) {
	secret, err := mine.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append(append([]byte("frond pmi seal 1"), sender...), secret...))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// Seal encrypts data for the owner of a public key, as a word without blanks.
func Seal(public string, data []byte) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(public)
	if err != nil {
		return "", errors.New("the key is malformed")
	}
	theirs, err := ecdh.X25519().NewPublicKey(raw)
	if err != nil {
		return "", fmt.Errorf("the key is malformed: %w", err)
	}
	once, err := NewKey()
	if err != nil {
		return "", err
	}
	sender := once.private.PublicKey().Bytes()
	aead, err := shared(once.private, theirs, sender)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(sender, make([]byte, aead.NonceSize()), data, nil)), nil
}

// Open decrypts what was sealed for this key.
func (k Key) Open(sealed string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || len(raw) < 32 {
		return nil, errors.New("what was sealed is malformed")
	}
	theirs, err := ecdh.X25519().NewPublicKey(raw[:32])
	if err != nil {
		return nil, err
	}
	aead, err := shared(k.private, theirs, raw[:32])
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, make([]byte, aead.NonceSize()), raw[32:], nil)
}
