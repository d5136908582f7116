// Package pmi is the server side of the PMI-1 simple wire protocol (Flux RFC 13) for one run on one broker: what MPICH and its
// relatives find each other by. It is pure: lines of text go in, lines and orders come out; exec/proc owns the sockets.
//
// Each task has a socket (PMI_FD). It writes a line and gets a line, in turn. What tasks put becomes visible to all at the next
// barrier: when all tasks here are in it, the server asks for one exchange (Result.Fence) with the job's other brokers, and Release
// ends the barrier with what all of them have put. Spawning and name publishing are refused.
package pmi
