package store

import "golang.org/x/sys/unix"

// remoteMagic holds the statfs types of file systems that may be shared between machines, where a WAL's shared memory index
// does not work (sqlite.org/wal.html, "all processes using a database must be on the same host computer"). Numbers from
// linux/magic.h and the file systems' own sources. FUSE stands among them because sshfs and the like cannot be told apart.
var remoteMagic = map[int64]string{
	0x00006969: "nfs",
	0x0000517b: "smb",
	0xff534d42: "cifs",
	0xfe534d42: "smb2",
	0x0bd00bd0: "lustre",
	0x47504653: "gpfs",
	0x19830326: "beegfs",
	0x00c36400: "ceph",
	0x5346414f: "afs",
	0x6b414653: "kafs",
	0x01021997: "9p",
	0x20030528: "orangefs",
	0xaad7aaea: "panfs",
	0x01161970: "gfs2",
	0x7461636f: "ocfs2",
	0x65735546: "fuse",
}

// isRemote tells whether dir lies on a network or cluster file system.
func isRemote(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	_, remote := remoteMagic[int64(uint32(st.Type))]
	return remote
}
