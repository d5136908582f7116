package resource

// Drain is a node that was taken out of use. It is of the node with this index and name: another one in its place is not drained.
type Drain struct {
	Node   int // Index
	Name   string
	Reason string
	Since  float64 // epoch seconds
}

// DrainCommit is the effect that writes drains down: Set are new or changed, Clear ended. It is durable when it is done. The nodes in both
// are named by index.
type DrainCommit struct {
	Set   []Drain
	Clear []int
}
