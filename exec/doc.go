// Package exec is the life of jobs' tasks on one broker as a pure state machine, and the port to whatever runs them (exec/proc,
// exec/sim).
//
// Events go into Machine.Step with the time; actions come out. The machine keeps the broker's side of the protocol that stands in
// broker/api/exec.go: sessions, syncs, leases, records that are kept until they are acknowledged. It ends runs (TERM, then KILL,
// again and again), enforces time limits, warning signals and exit timeouts, plays mock execution on its own timer, and bounds
// the output that nobody has acknowledged.
//
// A run is one attempt of a job, here: its part on this broker's nodes. All times inside are nanoseconds since the first Step, so
// that a step of the wall clock neither ends a lease nor a job.
package exec
