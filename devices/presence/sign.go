package presence

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// secretPrefix marks a secret that is the base64 of its key (standardwebhooks.com); any other secret is the key itself.
const secretPrefix = "whsec_"

// leastKey is how many bytes a key must have.
const leastKey = 16

// KeyOf returns the key of a webhook's secret.
func KeyOf(secret string) ([]byte, error) {
	key := []byte(secret)
	if text, ok := strings.CutPrefix(secret, secretPrefix); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("what follows %s is not base64", secretPrefix)
		}
	}
	if len(key) < leastKey {
		return nil, fmt.Errorf("a key of %d bytes is shorter than %d; make one with: openssl rand -base64 32", len(key), leastKey)
	}
	return key, nil
}

// sign returns the signature of a message as Standard Webhooks has it (standardwebhooks.com, "Signature scheme"):
// v1,BASE64 of the HMAC-SHA256 of ID.SECONDS.BODY.
func sign(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
