// Package proc is the driver that runs tasks as real processes: the port of package exec on top of exec/spawner.
//
// A slot is a spawner with what belongs to it for life: two spool files and a temporary directory. A task takes an idle slot, or a
// new one is made. Jobs of one task that nobody watches, the many, are started on the caller's turn with one write to the spawner;
// their output goes to the slot's spool, which is read when the task has ended and something is in it. All others are
// prepared on a goroutine of their own and write into pipes, or straight into the files that they name.
//
// Locks: Driver.mu guards what runs where; slot.mu orders what is said to its spawner. Driver.mu may be taken while slot.mu is held,
// never the other way round.
package proc
