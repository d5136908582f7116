package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/frond-hpc/frond/resource/idset"
	"github.com/spf13/cobra"
)

// addArray declares the options of commands that submit arrays.
func (o *submitOptions) addArray(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.maxFails, "max-fails", "", "when `N` jobs of an array have failed, cancel the rest of it")
}

// arraySpec reads Slurm's --array: numbers and ranges, ranges with a step, and how many of them may run at once, as in 1-99,200-400:10%50.
func arraySpec(text string) (values, atOnce string, err error) {
	list, atOnce, limited := strings.Cut(text, "%")
	if limited {
		if n, err := strconv.Atoi(atOnce); err != nil || n < 1 {
			return "", "", fmt.Errorf("--array=%s: after %% stands how many jobs may run at once", text)
		}
	}
	var set idset.Set
	for part := range strings.SplitSeq(list, ",") {
		if err := addStepped(&set, part); err != nil {
			return "", "", fmt.Errorf("--array=%s: %w", text, err)
		}
	}
	return set.String(), atOnce, nil
}

// addStepped adds N, LO-HI or LO-HI:STEP.
func addStepped(set *idset.Set, part string) error {
	span, text, stepped := strings.Cut(part, ":")
	one, err := idset.Parse(span)
	if err != nil || one.Empty() {
		return fmt.Errorf("%q is not a number or a range LO-HI or LO-HI:STEP", part)
	}
	if !stepped {
		for r := range one.Ranges() {
			set.AddRange(r.Lo, r.Hi)
		}
		return nil
	}
	step, err := strconv.Atoi(text)
	switch {
	case err != nil || step < 1:
		return fmt.Errorf("%q: the step is not an integer ≥ 1", part)
	case one.Len()/step >= maxArray:
		return fmt.Errorf("%q makes more than %d jobs", part, maxArray)
	}
	for id := one.Min(); id <= one.Max(); id += step {
		set.Add(id)
		if id > one.Max()-step { // the sum could be too large
			break
		}
	}
	return nil
}
