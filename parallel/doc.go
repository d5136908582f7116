// Package parallel is the engine of `frond parallel`: by GNU parallel's rules it reads input sources, combines them, and makes command
// lines of a template. It also has the rules for when to halt, and the formats of the job log and of result files. It does no I/O of
// its own: sources are readers that the caller opens, and files are written by the caller.
//
// Everything streams: of the first source no more is read than jobs were asked for. Other sources are kept in memory, because they are
// gone through again and again.
package parallel
