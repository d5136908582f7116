package store

import (
	"fmt"

	"github.com/frond-hpc/frond/broker/kvs"
)

// formatKVS adds the key-value store. A value is its parts in order; a directory and a link have one.
const formatKVS = `
CREATE TABLE kvs_namespace (
	name  TEXT PRIMARY KEY,
	owner INTEGER NOT NULL,
	seq   INTEGER NOT NULL      -- of its last commit
) WITHOUT ROWID;
CREATE TABLE kvs (
	namespace TEXT NOT NULL,
	key       TEXT NOT NULL,    -- names joined by "."
	part      INTEGER NOT NULL,
	kind      INTEGER NOT NULL, -- 1 value, 2 directory, 3 link
	data      BLOB,
	PRIMARY KEY (namespace, key, part)
) WITHOUT ROWID;
`

// formatTokens adds the tokens of commits of the key-value store that are made once.
const formatTokens = `
CREATE TABLE kvs_token (
	n     INTEGER PRIMARY KEY,
	token TEXT NOT NULL,
	seq   INTEGER NOT NULL      -- what the commit was answered
);
`

// KVS is what the key-value store holds at start. It can be asked once.
func (s *Store) KVS() *kvs.Loaded {
	l := s.kvs
	s.kvs = nil
	return l
}

func loadKVS(c *conn) (*kvs.Loaded, error) {
	l := &kvs.Loaded{}
	err := c.each(`SELECT name, owner, seq FROM kvs_namespace ORDER BY name`, nil, func(r *row) bool {
		l.Spaces = append(l.Spaces, kvs.SpaceRow{Name: r.text(), Owner: uint32(r.int()), Seq: uint64(r.int())})
		return true
	})
	if err != nil {
		return nil, err
	}
	err = c.each(`SELECT namespace, key, part, kind, data FROM kvs ORDER BY namespace, key, part`, nil, func(r *row) bool {
		l.Rows = append(l.Rows, kvs.Row{Space: r.text(), Key: r.text(), Part: int(r.int()), Kind: kvs.Kind(r.int()), Data: r.bytes()})
		return true
	})
	if err != nil {
		return nil, err
	}
	err = c.each(`SELECT n, token, seq FROM kvs_token ORDER BY n`, nil, func(r *row) bool {
		l.Tokens = append(l.Tokens, kvs.TokenRow{N: uint64(r.int()), Token: r.text(), Seq: uint64(r.int())})
		return true
	})
	return l, err
}

// commitKVS writes a Txn of the key-value store in one transaction. After an error nothing of it is in the database.
func (w *writer) commitKVS(t *kvs.Txn) error {
	if w.takenOver {
		return ErrTakenOver
	}
	if err := w.c.run(`BEGIN IMMEDIATE`); err != nil {
		return err
	}
	err := w.checkEpoch()
	if err == nil {
		err = w.writeKVS(t)
	}
	if err == nil {
		err = w.c.run(`COMMIT`)
	}
	if err != nil {
		w.c.rollback()
	}
	return err
}

func (w *writer) writeKVS(t *kvs.Txn) error {
	w.entries.reset()
	for i := range t.Rows {
		if err := w.writeEntry(&t.Rows[i]); err != nil {
			return err
		}
	}
	if err := w.entries.flush(); err != nil {
		return err
	}
	for _, k := range t.Tokens {
		if err := w.c.run(`INSERT OR REPLACE INTO kvs_token VALUES (?,?,?)`, int64(k.N), k.Token, int64(k.Seq)); err != nil {
			return err
		}
	}
	if t.Forget > 0 {
		if err := w.c.run(`DELETE FROM kvs_token WHERE n <= ?`, int64(t.Forget)); err != nil {
			return err
		}
	}
	for _, s := range t.Spaces {
		var err error
		if s.Gone {
			err = w.c.run(`DELETE FROM kvs_namespace WHERE name = ?`, s.Name)
		} else {
			err = w.c.run(`INSERT OR REPLACE INTO kvs_namespace VALUES (?,?,?)`, s.Name, int64(s.Owner), int64(s.Seq))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) writeEntry(r *kvs.Row) error {
	if !r.Drop {
		data := r.Data
		if data == nil {
			data = []byte{}
		}
		return w.entries.add(r.Space, r.Key, int64(r.Part), int64(r.Kind), data)
	}
	if err := w.entries.flush(); err != nil { // rows before it are dropped too
		return err
	}
	if r.Key == "" {
		return w.c.run(`DELETE FROM kvs WHERE namespace = ?`, r.Space)
	}
	if err := w.c.run(`DELETE FROM kvs WHERE namespace = ? AND key = ?`, r.Space, r.Key); err != nil {
		return err
	}
	// "/" comes next after ".": this is all that begins with "key."
	return w.c.run(`DELETE FROM kvs WHERE namespace = ? AND key > ? AND key < ?`, r.Space, r.Key+".", r.Key+"/")
}

// turnKVS carries out a commit of the key-value store. Its failure is its own: its service has one under way at a time.
func (s *Store) turnKVS(t *task, c *kvs.Commit) {
	if err := s.w.commitKVS(c.Txn); err != nil {
		t.done(nil, s.explain(fmt.Errorf("key-value store: %w", err)))
		return
	}
	t.done(nil, nil)
}
