package main

import (
	"fmt"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/idset"
)

// maxArray is the largest number of elements of an array (DESIGN §6).
const maxArray = 4_194_304

// parseIDs reads job ids from arguments: an id in any form, or ARRAY:INDEXES for elements of an array, as in f2Gk:17 or f2Gk:1-10
// (element i has the id of the array + 1 + i).
func parseIDs(args []string) ([]jobspec.ID, error) {
	var ids []jobspec.ID
	for _, a := range args {
		more, err := parseIDArg(a)
		if err != nil {
			return nil, err
		}
		ids = append(ids, more...)
	}
	return ids, nil
}

func parseIDArg(arg string) ([]jobspec.ID, error) {
	text, elements, found := strings.Cut(arg, ":")
	id, err := jobspec.ParseID(text)
	if err != nil {
		return nil, err
	}
	if !found {
		return []jobspec.ID{id}, nil
	}
	set, err := idset.Parse(elements)
	if err != nil || set.Empty() {
		return nil, fmt.Errorf("%q: after ':' stand indexes of elements of an array, as in 17 or 1-10,20", arg)
	}
	if set.Max() >= maxArray {
		return nil, fmt.Errorf("%q: an array has at most %d elements", arg, maxArray)
	}
	ids := make([]jobspec.ID, 0, set.Len())
	for i := range set.All() {
		ids = append(ids, id+1+jobspec.ID(i))
	}
	return ids, nil
}

// parseOneID is parseIDs where exactly one job is meant.
func parseOneID(arg string) (jobspec.ID, error) {
	ids, err := parseIDArg(arg)
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
