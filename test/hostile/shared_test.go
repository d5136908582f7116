package hostile

import (
	"testing"

	"github.com/frond-hpc/frond/overlay/boot"
)

// TestOneInstanceOutlivesAll does one hostile thing after the other to the same instance.
func TestOneInstanceOutlivesAll(t *testing.T) {
	t.Parallel()
	in := start(t, "--statedir", "s")
	in.outlives(t, []area{
		{"bytes that are no message on the local socket", badFrames},
		{"messages that make no sense on the local socket", badMessages},
		{"malformed requests of every method", badRequests},
		{"requests that would be much more in memory", bigRequests},
		{"bytes on the tree's ports", badBytesOnThePorts},
		{"peers without the certificate", strangers},
		{"malformed frames of peers with the certificate", badPeers},
		{"a member that sends malformed messages", badMember},
		{"a client of another user", otherUser},
		{"jobspecs that are wrong", badJobspecs},
		{"submissions that are wrong", badSubmissions},
		{"options that are wrong", badOptions},
		{"jobs that are not there", unknownIDs},
		{"commands that cannot be started", badCommands},
		{"ten thousand clients", tenThousand},
		{"clients that never read", neverReads},
		{"ten thousand watches of one key", tenThousandWatches},
	})
}

// TestTheTreesPortsOverZeroMQ does those of them that concern the tree to an instance whose brokers talk ZeroMQ.
func TestTheTreesPortsOverZeroMQ(t *testing.T) {
	t.Parallel()
	in := place(t)
	in.transport = boot.ZeroMQ
	in.start(t)
	in.outlives(t, []area{
		{"bytes on the tree's ports", badBytesOnThePorts},
		{"peers without the certificate", strangers},
		{"malformed frames of peers with the certificate", badPeers},
		{"a member that sends malformed messages", badMember},
	})
}

// area is a kind of hostility.
type area struct {
	name string
	do   func(t *testing.T, in *instance)
}

func (in *instance) outlives(t *testing.T, areas []area) {
	for _, a := range areas {
		if !t.Run(a.name, func(t *testing.T) { a.do(t, in); in.serves(t) }) {
			return
		}
	}
	in.lostNothing(t)
	in.frond(t, "run", "-N4", "-n4", "true")
}
