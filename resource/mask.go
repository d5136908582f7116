package resource

// Mask is a set of small ids (cores or gpus of one node). The zero value is empty. Values are immutable: operations return
// new ones; copying is cheap.
type Mask struct {
	w    uint64   // ids 0-63
	more []uint64 // ids from 64 on; never changed once made
}
