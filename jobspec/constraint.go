package jobspec

// Constraint is a condition on nodes (Flux RFC 31): one operator with its operands. Immutable.
type Constraint struct {
	Op    string        // properties, hostlist, ranks, and, or, not; "" matches everything
	Names []string      // operands of properties, hostlist (host lists) and ranks (idsets)
	Sub   []*Constraint // operands of and, or, not
}
