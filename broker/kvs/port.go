// Package kvs is the key-value store's machine: namespaces with a tree of values, directories and links each, atomic commits, and who is to
// be told of a change. It is pure. Whole states are immutable values that share what they have in common, so that three of them cost hardly
// more than one:
//
//	latest   what the next commit builds on
//	flight   what the store is writing at the moment
//	durable  what is read and watched: nobody sees what a crash could take back
package kvs

import "fmt"

// Kind of an entry.
type Kind uint8

// The kinds of entries. They stand in the store and on the wire.
const (
	Value Kind = 1 + iota
	Dir
	Link
)

// Primary is the namespace that is always there.
const Primary = "primary"

// Txn is what one group commit of the store writes, all or nothing, in this order: first the rows, then the namespaces. Everything in it is
// immutable once given away.
type Txn struct {
	Rows   []Row
	Spaces []SpaceRow
	Tokens []TokenRow
	Forget uint64 // tokens with numbers up to this are dropped
}

type (
	// Row is one piece of an entry: it is inserted, or replaces the row of the same (Space, Key, Part). A value is its parts in order;
	// appending adds one. With Drop the entry and everything below it goes, and the other fields mean nothing; Key "" drops the
	// whole namespace.
	Row struct {
		Space string
		Key   string // names joined by "."
		Part  int
		Kind  Kind
		Data  []byte // of a value; of a link its target, "key" or "namespace::key"
		Drop  bool
	}
	// SpaceRow is a namespace, replaced by name. Gone: removed.
	SpaceRow struct {
		Name  string
		Owner uint32
		Seq   uint64
		Gone  bool
	}
)

// TokenRow says that a commit with a token was made, and what it was answered. N counts them.
type TokenRow struct {
	N     uint64
	Token string
	Seq   uint64
}

// Loaded is what a store holds at start: rows in order of (Space, Key, Part), none with Drop; tokens in order of N.
type Loaded struct {
	Rows   []Row
	Spaces []SpaceRow
	Tokens []TokenRow
}

// Commit is the effect that writes a Txn; its Done has the same *Commit as Effect. There is never more than one under way.
type Commit struct{ Txn *Txn }

// Limits of what a store takes.
type Limits struct {
	Total  int64 // bytes: names, values and Overhead for each entry
	Spaces int
	Tokens int // the last ones are known
}

// DefaultLimits are those of an instance.
var DefaultLimits = Limits{Total: 256 << 20, Spaces: 10_000, Tokens: 10_000}

const (
	// Overhead is what an entry counts beside its name and value.
	Overhead = 160
	// MaxValue is the size of the largest value: it fits into one message with what stands around it.
	MaxValue = 16<<20 - 64<<10
	// MaxKey bounds a key's bytes.
	MaxKey = 4096
	// MaxDepth bounds the names in a key.
	MaxDepth = 128
	// MaxToken bounds a token's bytes.
	MaxToken = 128
	// MaxLinks is how many links may be followed on the way to one key.
	MaxLinks = 10
)

// Size writes a number of bytes for people.
func Size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
