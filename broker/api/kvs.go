//lint:file-ignore U1000 the _msgpack fields are read by msgpack

package api

import "github.com/frond-hpc/frond/broker/rpc"

// The key-value store, on the leader. All that is read is durable, and includes every commit that was answered before the question was asked.
//
// Values up to KVSInline bytes travel in answers; larger ones are fetched with kvs.read, one after the other for each client (Heavy), so that
// many small questions never have large answers.

// KVSInline is the largest value that stands in an answer of kvs.get and kvs.watch.
const KVSInline = 4000

// The kinds of entries and of changes, and the namespace that is always there. broker/kvs has the same.
const (
	KVSValue uint8 = 1 + iota
	KVSDir
	KVSLink

	KVSPrimary = "primary"
)

// What a KVSOp does.
const (
	KVSPut     uint8 = 1 + iota // Key gets the value Data, whatever was there; directories on the way are made
	KVSAppend                   // Data is added to the value
	KVSUnlink                   // Key goes
	KVSMkdir                    // Key is a directory, and stays one that is there
	KVSSymlink                  // Key is a link to Target in TargetSpace
	KVSCopy                     // Key becomes what Target in TargetSpace is, with all below
)

var (
	// KVSCommit applies ops to a namespace, all or none, and answers when that is durable. Errors: NotFound (namespace, or a key that must be
	// there), Invalid, Exists, TooLarge (a limit), Unavailable (the state directory cannot be written). It may not be sent again
	// after Lost: an append would be done twice.
	KVSCommit = rpc.Method[KVSCommitReq, KVSCommitRep]{Topic: "kvs.commit"}
	// KVSCommitOnce is KVSCommit under a token of the client's choice: it may be sent again, and is done once. The last 10,000 tokens are known.
	KVSCommitOnce = rpc.Method[KVSCommitReq, KVSCommitRep]{Topic: "kvs.commit-once", Idempotent: true}
	// KVSGet reads one entry. NotFound if there is none.
	KVSGet = rpc.Method[KVSGetReq, KVSEntry]{Topic: "kvs.get", Idempotent: true}
	// KVSRead reads a piece of a value of any size.
	KVSRead = rpc.Method[KVSReadReq, KVSEntry]{Topic: "kvs.read", Idempotent: true}
	// KVSList reads a directory in order of names, in parts: the next one begins after the last name of this.
	KVSList = rpc.Method[KVSListReq, KVSListRep]{Topic: "kvs.list", Idempotent: true}
	// KVSWatch streams an entry and what becomes of it. Changes in quick succession may come as one. It ends with NotFound when the key is
	// removed, and with Resync when too much has changed at once. After Lost it may be opened again: it then begins anew.
	KVSWatch = rpc.Method[KVSWatchReq, KVSEntry]{Topic: "kvs.watch", Stream: true, Idempotent: true}
	// KVSWait answers when a namespace's sequence number has reached Seq.
	KVSWait = rpc.Method[KVSWaitReq, KVSRoot]{Topic: "kvs.wait", Idempotent: true}
	// KVSGetRoot tells of a namespace as a whole.
	KVSGetRoot = rpc.Method[KVSSpaceReq, KVSRoot]{Topic: "kvs.getroot", Idempotent: true}
	// KVSCreate makes an empty namespace. Exists if there is one of that name.
	KVSCreate = rpc.Method[KVSSpaceReq, Empty]{Topic: "kvs.namespace-create"}
	// KVSRemove removes a namespace and all that is in it.
	KVSRemove = rpc.Method[KVSSpaceReq, Empty]{Topic: "kvs.namespace-remove"}
	// KVSSpaces lists the namespaces by name.
	KVSSpaces = rpc.Method[Empty, KVSSpacesRep]{Topic: "kvs.namespace-list", Idempotent: true}
)

type (
	// KVSOp is one change of a commit.
	KVSOp struct {
		_msgpack    struct{} `msgpack:",as_array"`
		Kind        uint8
		Key         string
		Data        []byte
		Target      string
		TargetSpace string
		Recursive   bool // KVSUnlink: with all below
		Must        bool // KVSUnlink: a key that is not there is an error
	}
	// KVSCommitReq is a commit. Namespace "" = primary, here and below.
	KVSCommitReq struct {
		Namespace string  `msgpack:"ns,omitempty"`
		Ops       []KVSOp `msgpack:"ops"`
		Token     string  `msgpack:"token,omitempty"` // KVSCommitOnce
	}
	// KVSCommitRep is the namespace's sequence number after it.
	KVSCommitRep struct {
		Seq uint64 `msgpack:"seq"`
	}
	// KVSGetReq names an entry.
	KVSGetReq struct {
		Namespace string `msgpack:"ns,omitempty"`
		Key       string `msgpack:"key"`
		NoFollow  bool   `msgpack:"nofollow,omitempty"` // a link itself
	}
	// KVSReadReq names a piece of a value: from Offset, at most Limit bytes (0 = all).
	KVSReadReq struct {
		Namespace string `msgpack:"ns,omitempty"`
		Key       string `msgpack:"key"`
		Offset    int    `msgpack:"offset,omitempty"`
		Limit     int    `msgpack:"limit,omitempty"`
	}
	// KVSEntry is an entry.
	KVSEntry struct {
		Seq     uint64 `msgpack:"seq"`
		Kind    uint8  `msgpack:"kind"`            // in a watch of a directory 0: not there any more
		Data    []byte `msgpack:"data,omitempty"`  // of a value; of a link its target, with "namespace::" in front if it names one
		Size    int    `msgpack:"size,omitempty"`  // of the whole value
		Big     bool   `msgpack:"big,omitempty"`   // Data is left out: kvs.read has it
		From    int    `msgpack:"from,omitempty"`  // where in the value Data begins
		Entries int    `msgpack:"n,omitempty"`     // of a directory
		Key     string `msgpack:"key,omitempty"`   // in a watch of a directory: what has changed
		Name    string `msgpack:"entry,omitempty"` // in a listing
	}
	// KVSListReq names a directory, and what of it is wanted.
	KVSListReq struct {
		Namespace string `msgpack:"ns,omitempty"`
		Key       string `msgpack:"key"`
		After     string `msgpack:"after,omitempty"`
		Data      int    `msgpack:"data,omitempty"` // bytes of each value, at most KVSInline
	}
	// KVSListRep is a part of it.
	KVSListRep struct {
		Seq     uint64     `msgpack:"seq"`
		Entries []KVSEntry `msgpack:"entries"`
		More    bool       `msgpack:"more,omitempty"`
	}
	// KVSWatchReq says what to watch.
	KVSWatchReq struct {
		Namespace  string `msgpack:"ns,omitempty"`
		Key        string `msgpack:"key"`
		WaitCreate bool   `msgpack:"wait,omitempty"`   // wait for a key that is not there yet
		Uniq       bool   `msgpack:"uniq,omitempty"`   // only other values than the one before
		Append     bool   `msgpack:"append,omitempty"` // only what was added to the value
		Tree       bool   `msgpack:"tree,omitempty"`   // all keys below a directory
	}
	// KVSWaitReq names a sequence number.
	KVSWaitReq struct {
		Namespace string `msgpack:"ns,omitempty"`
		Seq       uint64 `msgpack:"seq"`
	}
	// KVSSpaceReq names a namespace. Owner: the user it is for (kvs.namespace-create); 0 = who asks.
	KVSSpaceReq struct {
		Namespace string `msgpack:"ns,omitempty"`
		Owner     uint32 `msgpack:"owner,omitempty"`
	}
	// KVSRoot is a namespace as a whole.
	KVSRoot struct {
		Namespace string `msgpack:"ns" json:"namespace"`
		Owner     uint32 `msgpack:"owner" json:"owner"`
		Seq       uint64 `msgpack:"seq" json:"sequence"`
		Entries   int64  `msgpack:"n" json:"entries"`
		Bytes     int64  `msgpack:"bytes" json:"bytes"`
	}
	// KVSSpacesRep lists namespaces.
	KVSSpacesRep struct {
		Namespaces []KVSRoot `msgpack:"namespaces"`
	}
)
