package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/client"
	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

// maxArray is the largest number of elements of an array.
const maxArray = 4_194_304

// maxNamed is how many elements one argument may name.
const maxNamed = 100_000

// elementsOf is an array of which an argument names elements.
type elementsOf struct {
	arg   string
	array jobspec.ID
	last  int // the largest index
}

// parseIDs reads job ids from arguments: an id in any form, or ARRAY:INDEXES for elements of an array, as in f2Gk:17 or f2Gk:1-10
// (element i has the id of the array + 1 + i). That these elements are there is checked by connect.
func (e *env) parseIDs(args []string) ([]jobspec.ID, error) {
	var ids []jobspec.ID
	for _, a := range args {
		more, err := e.parseIDArg(a)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	return ids, nil
}

func (e *env) parseIDArg(arg string) ([]jobspec.ID, error) {
	text, elements, found := strings.Cut(arg, ":")
	id, err := jobspec.ParseID(text)
	if err != nil {
		return nil, err
	}
	if !found {
		return []jobspec.ID{id}, nil
	}
	set, err := idset.Parse(elements)
	switch {
	case err != nil || set.Empty():
		return nil, fmt.Errorf("%q: after ':' stand indexes of elements of an array, ascending, as in 17 or 1-10,20", arg)
	case set.Max() >= maxArray:
		return nil, fmt.Errorf("%q: an array has at most %d elements", arg, maxArray)
	case set.Len() > maxNamed:
		return nil, fmt.Errorf("%q names %d jobs; one argument may name %d", arg, set.Len(), maxNamed)
	}
	e.elements = append(e.elements, elementsOf{arg, id, set.Max()})
	ids := make([]jobspec.ID, 0, set.Len())
	for i := range set.All() {
		ids = append(ids, id+1+jobspec.ID(i))
	}
	return ids, nil
}

// checkElements has the instance say that the arrays named so far have the elements: otherwise the ids could be those of other jobs.
func (e *env) checkElements(ctx context.Context, c *client.Client) error {
	if len(e.elements) == 0 {
		return nil
	}
	var req api.LookupReq
	for _, el := range e.elements {
		req.IDs = append(req.IDs, el.array)
	}
	rep, err := client.Call(ctx, c, api.Lookup, req)
	if err != nil {
		return err
	}
	for i, el := range e.elements {
		if i >= len(rep.Found) {
			break
		}
		switch f := rep.Found[i]; {
		case f.N == 0:
			return fmt.Errorf("%s: no such job: %s", el.arg, e.idText(el.array))
		case f.ID != el.array:
			return fmt.Errorf("%s: %s is itself an element of the array %s", el.arg, e.idText(el.array), e.idText(f.ID))
		case f.N == 1:
			return fmt.Errorf("%s: %s is a single job, not an array", el.arg, e.idText(el.array))
		case el.last >= f.N:
			return fmt.Errorf("%s: the array has %d elements, 0 to %d", el.arg, f.N, f.N-1)
		}
	}
	e.elements = nil
	return nil
}

// parseOneID is parseIDs where exactly one job is meant.
func (e *env) parseOneID(arg string) (jobspec.ID, error) {
	ids, err := e.parseIDArg(arg)
	if err != nil {
		return 0, err
	}
	if len(ids) != 1 {
		return 0, fmt.Errorf("%q names %d jobs, but one is needed", arg, len(ids))
	}
	return ids[0], nil
}

// idText writes an id in F58, with a plain f where the locale is not UTF-8 (or FROND_F58_FORCE_ASCII is set).
func (e *env) idText(id jobspec.ID) string {
	if e.asciiIDs() {
		return id.F58Plain()
	}
	return id.String()
}

func (e *env) asciiIDs() bool {
	if e.getenv("FROND_F58_FORCE_ASCII") != "" {
		return true
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := e.getenv(name); v != "" {
			v = strings.ToUpper(v)
			return !strings.Contains(v, "UTF-8") && !strings.Contains(v, "UTF8")
		}
	}
	return true
}
