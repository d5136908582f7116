package jobspec

// ID is a job id: a FLUID (Flux RFC 19) without generator field, written in F58.
type ID uint64
