// Package spawner is a small resident C process that runs tasks, one after the other, for a broker, and the Go side
// that talks to it.
//
// The C part stands in the same executable: a constructor looks at argv[0] before Go's runtime starts, and a spawner never gets
// there. It costs about half a megabyte and needs no binary of its own.
//
// Properties that others rely on:
//   - It is a child subreaper: every process that descends from its task, also one that forked twice, made a session of its own or
//     cleared its environment, ends up as its child. When the task's main process has ended it kills and reaps all of
//     them before it reports, so a report means that nothing of the task is left.
//   - It holds descriptor 3, one end of a socket pair. When the other end closes, because the broker closed it or was killed, it
//     kills and reaps what it runs and exits.
//   - The task's main process leads a process group, in the slot's session (one with a terminal: a session of its own), has default signal dispositions, no descriptor but the ones asked for, and dies
//     with its spawner (PR_SET_PDEATHSIG).
//   - A task that ends within 3 ms makes one report, not two.
//
// The broker must read reports until the end: the spawner blocks when the socket is full.
package spawner
