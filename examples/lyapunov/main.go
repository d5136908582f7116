// Command lyapunov is the program of the quickstart's parameter sweep: where does order become chaos?
//
// The logistic map x ← r·x·(1−x) settles on a cycle for some r and wanders for ever for others. Its Lyapunov exponent, the mean of
// ln|r·(1−2x)| along the orbit, tells which: below zero neighbouring orbits meet, above zero they part.
//
//	lyapunov FIRST LAST COUNT K    the exponent for the K-th (from 1) of COUNT values of r from FIRST to LAST
package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
)

const (
	settle = 100_000    // steps until the orbit has forgotten where it started
	steps  = 20_000_000 // steps that count
)

func main() {
	r, err := parameter(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lyapunov:", err)
		os.Exit(2)
	}
	exponent := lyapunov(r)
	kind := "order"
	if exponent > 0 {
		kind = "chaos"
	}
	fmt.Printf("%.4f  %+.4f  %s\n", r, exponent, kind)
}

// parameter works out r from the arguments.
func parameter(args []string) (float64, error) {
	if len(args) != 4 {
		return 0, fmt.Errorf("usage: lyapunov FIRST LAST COUNT K")
	}
	var v [4]float64
	for i, a := range args {
		f, err := strconv.ParseFloat(a, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", a)
		}
		v[i] = f
	}
	first, last, count, k := v[0], v[1], v[2], v[3]
	if k < 1 || k > count || first < 0 || last >= 4 { // at 4 a float64 orbit falls into 0 sooner or later
		return 0, fmt.Errorf("need 1 ≤ K ≤ COUNT, and r from 0 to below 4")
	}
	return first + (last-first)*(k-1)/math.Max(1, count-1), nil
}

// lyapunov follows the orbit. The logarithm is taken of products of many factors, which is ten times as fast as one by one.
func lyapunov(r float64) float64 {
	x := 0.4
	for range settle {
		x = r * x * (1 - x)
	}
	sum, product := 0.0, 1.0
	for i := range steps {
		product *= math.Abs(r * (1 - 2*x))
		if i%16 == 15 {
			sum += math.Log(math.Max(product, math.SmallestNonzeroFloat64))
			product = 1
		}
		x = r * x * (1 - x)
	}
	return sum / steps
}
