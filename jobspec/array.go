package jobspec

import (
	"fmt"
	"strconv"
)

// ArrayOptions are attributes of Frond's own for arrays (attributes.system.array), and for jobs as arrays of one.
type ArrayOptions struct {
	Limit    int // elements that run at once; 0 = any number
	MaxFails int // elements that fail until the rest is cancelled; 0 = never
}

const (
	maxRetries  = 1000
	maxElements = 1 << 22 // of an array
)

func (js *Jobspec) fillArray(v any) error {
	m, err := asObject(v)
	if err != nil {
		return err
	}
	if js.Array.Limit, err = optInt(m.get("limit"), 0, 1, maxElements); err != nil {
		return at("limit", err)
	}
	js.Array.MaxFails, err = optInt(m.get("max-fails"), 0, 1, maxElements)
	return at("max-fails", err)
}

func (o *Options) arrayOptions(attrs tree) error {
	if o.Retries != "" {
		n, err := strconv.Atoi(o.Retries)
		if err != nil || n < 0 || n > maxRetries {
			return fmt.Errorf("--retries: %q is not a number from 0 to %d", clip(o.Retries), maxRetries)
		}
		attrs.put("system.retries", float64(n))
	}
	if o.MaxFails > 0 {
		attrs.put("system.array.max-fails", float64(o.MaxFails))
	}
	if o.AtOnce > 0 {
		attrs.put("system.array.limit", float64(o.AtOnce))
	}
	return nil
}
