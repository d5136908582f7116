package store

import (
	"fmt"
	"path/filepath"

	"github.com/frond-hpc/frond/broker/job"
)

// View reads a state directory from outside, for tools and tests: it takes no lock and raises no epoch, and a leader that uses the
// directory goes on undisturbed (on a network file system such a leader keeps the database to itself, and View fails).
// run gets what a next leader would load, with the present epoch, and a reader that is valid until it returns.
func View(dir string, run func(*job.Loaded, job.Reader) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c, err := openReading(dir)
	if err != nil {
		return fmt.Errorf("view state directory %s: %w", dir, err)
	}
	defer c.close()
	if err := checkFormat(c, dir); err != nil {
		return err
	}
	_, err = query(c, dir, func(r job.Reader) (any, error) {
		loaded, err := load(c)
		if err != nil {
			return nil, fmt.Errorf("view state directory %s: %w", dir, err)
		}
		return nil, run(loaded, r)
	})
	return err
}
