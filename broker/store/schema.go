package store

import (
	"database/sql/driver"
	"fmt"
	"path/filepath"
)

const dbName = "store.db"

// appID is PRAGMA application_id, "Frnd" in ASCII.
const appID = 0x46726e64

// format is PRAGMA user_version of what this program writes: the number of migrations.
var format = int64(len(migrations))

// migrations lead from format i to i+1. A published one is never changed.
var migrations = []string{formatOne, formatKVS, formatParams, formatRetries, formatDrain, formatOnce, formatAgain, formatHistory, formatTokens, formatPurge,
	formatBranch}

// formatOne is the first format. Ids are FLUIDs as 64-bit integers and grow with time, so that tables with an id as key are
// appended to. An element's id is its array's id + 1 + its index; a single job's is its array's. Times are Unix seconds.
const formatOne = `
CREATE TABLE meta (            -- one row
	one       INTEGER PRIMARY KEY CHECK (one = 1),
	epoch     INTEGER NOT NULL, -- raised by each leader; a transaction of another epoch fails
	last_id   INTEGER NOT NULL,
	completed INTEGER NOT NULL, -- elements that have ended, by result
	failed    INTEGER NOT NULL,
	canceled  INTEGER NOT NULL,
	timedout  INTEGER NOT NULL
);
CREATE TABLE spec (id INTEGER PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE env  (id INTEGER PRIMARY KEY, data BLOB NOT NULL); -- NAME=value, each ended by NUL
CREATE TABLE array (           -- one submission; n = 1: a single job
	id      INTEGER PRIMARY KEY,
	n       INTEGER NOT NULL,
	spec    INTEGER NOT NULL,
	env     INTEGER NOT NULL,
	name    TEXT,
	cc      TEXT,
	bcc     INTEGER NOT NULL,
	urgency INTEGER NOT NULL,
	flags   INTEGER NOT NULL,
	user    INTEGER NOT NULL,
	token   TEXT,
	submit  REAL NOT NULL
);
CREATE UNIQUE INDEX array_token ON array (token) WHERE token IS NOT NULL;
CREATE TABLE active (          -- arrays with unfinished elements
	id INTEGER PRIMARY KEY,
	hi INTEGER NOT NULL          -- elements 0 … hi-1 may have been started
);
CREATE TABLE total (           -- of each array with n > 1
	array       INTEGER PRIMARY KEY,
	n           INTEGER NOT NULL,
	completed   INTEGER NOT NULL,
	failed      INTEGER NOT NULL,
	canceled    INTEGER NOT NULL,
	timedout    INTEGER NOT NULL,
	maxstatus   INTEGER NOT NULL, -- largest wait status, -1 = none
	firstfailed INTEGER           -- smallest index that did not complete
);
CREATE TABLE element (         -- those that have ended
	id       INTEGER PRIMARY KEY,
	array    INTEGER NOT NULL,
	idx      INTEGER NOT NULL,
	result   INTEGER NOT NULL,   -- 1 completed, 2 failed, 4 canceled, 8 timeout
	status   INTEGER NOT NULL,   -- wait status, -1 = none
	attempt  INTEGER NOT NULL,
	t_run    REAL NOT NULL,
	t_end    REAL NOT NULL,
	nodelist TEXT,
	ranks    TEXT,
	r        TEXT,
	maxrss   INTEGER NOT NULL,   -- KiB
	cpu      REAL NOT NULL,      -- seconds
	events   BLOB
);
CREATE INDEX element_end ON element (t_end, result);
CREATE TABLE range (           -- elements lo … hi that ended alike without having run
	id     INTEGER PRIMARY KEY,  -- of element lo
	array  INTEGER NOT NULL,
	lo     INTEGER NOT NULL,
	hi     INTEGER NOT NULL,
	result INTEGER NOT NULL,
	t_end  REAL NOT NULL,
	events BLOB
);
CREATE INDEX range_end ON range (t_end, result);
CREATE TABLE start (           -- latest attempt of unfinished elements, where it must be known
	array   INTEGER NOT NULL,
	idx     INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	node    TEXT,
	PRIMARY KEY (array, idx)
) WITHOUT ROWID;
CREATE TABLE output (          -- where the output lies: output/NNNNNN.seg from pos, len bytes
	id      INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	task    INTEGER NOT NULL,
	stream  INTEGER NOT NULL,    -- 1 stdout, 2 stderr
	offset  INTEGER NOT NULL,    -- in the task's stream
	seg     INTEGER NOT NULL,
	pos     INTEGER NOT NULL,
	len     INTEGER NOT NULL,
	PRIMARY KEY (id, attempt, task, stream, offset)
) WITHOUT ROWID;
CREATE TABLE member (          -- brokers of the instance, as the leader last knew them
	rank    INTEGER PRIMARY KEY,
	uuid    TEXT,
	host    TEXT,
	boot_id TEXT,
	pid     INTEGER NOT NULL,
	state   TEXT
);
CREATE VIEW job AS             -- for people: finished jobs and elements
	SELECT e.id, a.name, e.idx,
	       CASE e.result WHEN 1 THEN 'completed' WHEN 2 THEN 'failed' WHEN 4 THEN 'canceled' ELSE 'timeout' END AS result,
	       e.status, e.attempt, e.nodelist,
	       datetime(a.submit, 'unixepoch') AS submitted, datetime(e.t_run, 'unixepoch') AS started,
	       datetime(e.t_end, 'unixepoch') AS ended, round(e.t_end - e.t_run, 3) AS seconds
	FROM element e JOIN array a ON a.id = e.array;
INSERT INTO meta VALUES (1, 0, 0, 0, 0, 0, 0);
`

// formatParams adds parameters of elements. Those of elements first … first+n-1 of a set are the row set << 22 | first: an array has at most
// 2^22 elements.
const formatParams = `
ALTER TABLE array ADD COLUMN params INTEGER NOT NULL DEFAULT 0; -- the set of its elements' parameters, 0 = none
CREATE TABLE params (
	id   INTEGER PRIMARY KEY,
	n    INTEGER NOT NULL,
	data BLOB NOT NULL           -- of each element: count of strings, length and bytes of each, as varints
);
CREATE TABLE upload (          -- sets whose submission has not come yet
	id    INTEGER PRIMARY KEY,
	token TEXT NOT NULL,
	time  REAL NOT NULL
);
CREATE INDEX upload_token ON upload (token);
`

// formatRetries adds how often an unfinished element has failed by itself.
const formatRetries = `ALTER TABLE start ADD COLUMN failed INTEGER NOT NULL DEFAULT 0`

// formatOnce adds what distinguishes submissions under a key.
const formatOnce = `ALTER TABLE array ADD COLUMN digest TEXT`

// formatAgain adds arrays that run elements of another again.
const formatAgain = `
ALTER TABLE array ADD COLUMN indexes TEXT;                   -- their indexes in that array, an idset; NULL: it is none
ALTER TABLE array ADD COLUMN size INTEGER NOT NULL DEFAULT 0; -- elements of that array
`

// formatHistory adds what happened to arrays as a whole, and the state of queues.
const formatHistory = `
CREATE TABLE history (         -- of those to which something did
	id     INTEGER PRIMARY KEY,  -- the array's
	events BLOB NOT NULL
);
CREATE TABLE queue (           -- that were turned off or on
	name     TEXT PRIMARY KEY,
	disabled INTEGER NOT NULL,
	stopped  INTEGER NOT NULL,
	why      TEXT,               -- it is disabled
	whystop  TEXT
) WITHOUT ROWID;
`

// formatBranch adds what branches hold. A range may be elements that ended in a branch, which has their rows.
const formatBranch = `
CREATE TABLE granted (         -- elements that a branch was given; of those in several the last counts
	num    INTEGER PRIMARY KEY,
	branch INTEGER NOT NULL,
	items  BLOB NOT NULL         -- of each array: id, length of an idset, the idset; numbers as varints
);
ALTER TABLE range ADD COLUMN status INTEGER NOT NULL DEFAULT -1; -- wait status, -1 = none
`

// openDB opens the database for the writer, creates or migrates its tables, and sets how it is kept durable.
func openDB(dir string, o Options, remote bool) (*conn, error) {
	c, err := openConn(filepath.Join(dir, dbName))
	if err != nil {
		return nil, err
	}
	if err := setUp(c, dir, o, remote); err != nil {
		c.close()
		return nil, fmt.Errorf("open %s: %w", filepath.Join(dir, dbName), err)
	}
	return c, nil
}

func setUp(c *conn, dir string, o Options, remote bool) error {
	if remote {
		// Before the first access to the WAL: then SQLite keeps its index in memory instead of in a shared mapping.
		if err := c.script(`PRAGMA locking_mode=EXCLUSIVE`); err != nil {
			return err
		}
	}
	if err := checkFormat(c, dir); err != nil {
		return err
	}
	sync, checkpoint := "FULL", o.checkpoint
	if o.Temp {
		sync = "OFF"
	}
	switch {
	case checkpoint == 0:
		checkpoint = 4000
	case checkpoint < 0:
		checkpoint = 0
	}
	if err := c.script(fmt.Sprintf(`PRAGMA synchronous=%s; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=%d;
		PRAGMA journal_size_limit=67108864; PRAGMA cache_size=-16384; PRAGMA temp_store=FILE`, sync, checkpoint)); err != nil {
		return err
	}
	return migrate(c, dir)
}

// checkFormat refuses databases that are not ours, or of a later program. It reads only.
func checkFormat(c *conn, dir string) error {
	version, err := c.number(`PRAGMA user_version`)
	if err != nil {
		return err
	}
	app, err := c.number(`PRAGMA application_id`)
	if err != nil {
		return err
	}
	tables, err := c.number(`SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return err
	}
	switch {
	case tables > 0 && app != appID:
		return fmt.Errorf("it holds another program's data")
	case version > format:
		return fmt.Errorf("state directory %s has format %d and this program knows formats up to %d: use a later frond", dir, version, format)
	}
	return nil
}

// migrate brings the tables to the current format, each step in a transaction of its own.
func migrate(c *conn, dir string) error {
	version, err := c.number(`PRAGMA user_version`)
	if err != nil {
		return err
	}
	for ; version < format; version++ {
		step := fmt.Sprintf("BEGIN IMMEDIATE;%s;PRAGMA application_id=%d;PRAGMA user_version=%d;COMMIT", migrations[version], appID, version+1)
		if err := c.script(step); err != nil {
			c.script(`ROLLBACK`)
			return fmt.Errorf("bring state directory %s from format %d to %d: %w", dir, version, version+1, err)
		}
	}
	return nil
}

// raiseEpoch makes this leader the one whose transactions are accepted.
func raiseEpoch(c *conn) (uint64, error) {
	if err := c.script(`BEGIN IMMEDIATE`); err != nil {
		return 0, err
	}
	err := c.run(`UPDATE meta SET epoch = epoch + 1`)
	var epoch int64
	if err == nil {
		epoch, err = c.number(`SELECT epoch FROM meta`)
	}
	if err == nil {
		err = c.script(`COMMIT`)
	}
	if err != nil {
		c.rollback()
	}
	return uint64(epoch), err
}

// rollback ends a transaction, if one is open.
func (c *conn) rollback() {
	if !c.db.AutoCommit() {
		c.script(`ROLLBACK`)
	}
}

// sqlID is an id as SQLite has it.
func sqlID[T ~uint64](v T) driver.Value { return int64(v) }
