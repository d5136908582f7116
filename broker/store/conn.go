package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"net/url"
	"strings"

	sqlite3 "github.com/mattn/go-sqlite3"
)

// conn is a connection used by one goroutine at a time, without database/sql: its pool, locks and conversions cost more than
// SQLite itself for rows as small as ours. Statements are prepared once and kept.
type conn struct {
	db   *sqlite3.SQLiteConn
	idle map[string][]*sqlite3.SQLiteStmt
	args []driver.NamedValue
}

// openConn opens the database file, which must exist.
func openConn(path string) (*conn, error) {
	uri := "file:" + (&url.URL{Path: path}).EscapedPath() + "?mode=rw&_mutex=no&_busy_timeout=5000"
	db, err := (&sqlite3.SQLiteDriver{}).Open(uri)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &conn{db: db.(*sqlite3.SQLiteConn), idle: map[string][]*sqlite3.SQLiteStmt{}}, nil
}

func (c *conn) close() error {
	for _, list := range c.idle {
		for _, s := range list {
			s.Close()
		}
	}
	return c.db.Close()
}

// script runs statements without arguments or results.
func (c *conn) script(sql string) error {
	_, err := c.db.Exec(sql, nil)
	return err
}

// run carries out one statement and forgets its rows.
func (c *conn) run(sql string, args ...driver.Value) error {
	return c.runNamed(sql, c.name(args))
}

// name numbers arguments in a slice that is used again by the next call: SQLite has copied them when the first step returns.
func (c *conn) name(args []driver.Value) []driver.NamedValue {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	return c.args
}

func (c *conn) runNamed(sql string, args []driver.NamedValue) error {
	s, err := c.take(sql)
	if err != nil {
		return err
	}
	defer c.put(sql, s)
	// Query and not Exec: it binds and steps in one call into C, which halves the cost of a small statement.
	rows, err := s.QueryContext(context.Background(), args)
	if err != nil {
		return err
	}
	return rows.Close()
}

// each calls f for the rows of a query until f returns false. f may run other queries on c.
func (c *conn) each(sql string, args []driver.Value, f func(*row) bool) error {
	cur, err := c.open(sql, args)
	if err != nil {
		return err
	}
	defer cur.close()
	for {
		r, err := cur.next()
		if r == nil || err != nil {
			return err
		}
		if !f(r) {
			return nil
		}
	}
}

// cursor is a running query.
type cursor struct {
	c    *conn
	sql  string
	s    *sqlite3.SQLiteStmt
	rows driver.Rows
	r    row
}

// open begins a query; the cursor must be closed.
func (c *conn) open(sql string, args []driver.Value) (*cursor, error) {
	s, err := c.take(sql)
	if err != nil {
		return nil, err
	}
	rows, err := s.QueryContext(context.Background(), c.name(args))
	if err != nil {
		c.put(sql, s)
		return nil, err
	}
	return &cursor{c: c, sql: sql, s: s, rows: rows, r: row{vals: make([]driver.Value, len(rows.Columns()))}}, nil
}

// next is the next row, valid until the call after; nil at the end.
func (cur *cursor) next() (*row, error) {
	switch err := cur.rows.Next(cur.r.vals); {
	case err == io.EOF:
		return nil, nil
	case err != nil:
		return nil, err
	}
	cur.r.next = 0
	return &cur.r, nil
}

func (cur *cursor) close() {
	cur.rows.Close()
	cur.c.put(cur.sql, cur.s)
}

// one calls f for the first row, and tells whether there was one.
func (c *conn) one(f func(*row), sql string, args ...driver.Value) (ok bool, err error) {
	err = c.each(sql, args, func(r *row) bool {
		f(r)
		ok = true
		return false
	})
	return ok, err
}

// number is the first column of the first row as an integer, 0 if there is none.
func (c *conn) number(sql string, args ...driver.Value) (n int64, err error) {
	_, err = c.one(func(r *row) { n = r.int() }, sql, args...)
	return n, err
}

// take finds or prepares a statement; a statement in use by an outer query is not used twice.
func (c *conn) take(sql string) (*sqlite3.SQLiteStmt, error) {
	if list := c.idle[sql]; len(list) > 0 {
		s := list[len(list)-1]
		c.idle[sql] = list[:len(list)-1]
		return s, nil
	}
	s, err := c.db.Prepare(sql)
	if err != nil {
		return nil, fmt.Errorf("prepare %.60q: %w", sql, err)
	}
	return s.(*sqlite3.SQLiteStmt), nil
}

func (c *conn) put(sql string, s *sqlite3.SQLiteStmt) { c.idle[sql] = append(c.idle[sql], s) }

// row is a result row whose columns are read from left to right.
type row struct {
	vals []driver.Value
	next int
}

func (r *row) col() driver.Value {
	r.next++
	return r.vals[r.next-1]
}

func (r *row) int() int64 {
	n, _ := r.col().(int64)
	return n
}

// float reads a REAL column, in which SQLite may keep whole numbers as integers.
func (r *row) float() float64 {
	switch v := r.col().(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	}
	return 0
}

func (r *row) text() string {
	s, _ := r.col().(string)
	return s
}

// bytes reads a BLOB or TEXT column as an own copy; NULL is nil.
func (r *row) bytes() []byte {
	switch v := r.col().(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return nil
}

// null is v, or NULL for an empty text.
func null(v string) driver.Value {
	if v == "" {
		return nil
	}
	return v
}

// textOrNull is b as TEXT, so that people can read it, or NULL if b is nil.
func textOrNull(b []byte) driver.Value {
	if b == nil {
		return nil
	}
	return string(b)
}

// bulk carries out one statement for many rows, up to bulkSizes[0] at once: a statement of many rows costs SQLite and the crossing
// into C far less than many statements.
type bulk struct {
	c                *conn
	head, tuple, end string
	cols             int
	args             []driver.NamedValue
	texts            map[int]string
	sent             int // rows since the last reset
}

// bulkSizes are the numbers of rows for which statements are prepared, the largest first.
var bulkSizes = [...]int{64, 8, 1}

// newBulk makes a bulk statement of the form head (?,…),(?,…) end, with cols columns.
func newBulk(c *conn, head string, cols int, end string) *bulk {
	tuple := "(" + strings.TrimSuffix(strings.Repeat("?,", cols), ",") + ")"
	b := &bulk{c: c, head: head, tuple: tuple, end: end, cols: cols, texts: map[int]string{}}
	for _, n := range bulkSizes {
		b.texts[n] = head + strings.TrimSuffix(strings.Repeat(tuple+",", n), ",") + end
	}
	return b
}

// add queues a row, and carries out what is queued when it is enough.
func (b *bulk) add(vals ...driver.Value) error {
	for _, v := range vals {
		b.args = append(b.args, driver.NamedValue{Ordinal: len(b.args) + 1, Value: v})
	}
	b.sent++
	if len(b.args) == bulkSizes[0]*b.cols {
		return b.flush()
	}
	return nil
}

// flush carries out what is queued.
func (b *bulk) flush() error {
	all := b.args
	args := all
	b.args = b.args[:0]
	for _, n := range bulkSizes {
		for k := n * b.cols; len(args) >= k; args = args[k:] {
			for i := range args[:k] {
				args[i].Ordinal = i + 1
			}
			if err := b.c.runNamed(b.texts[n], args[:k]); err != nil {
				return err
			}
		}
	}
	clear(all)
	return nil
}

// reset forgets what is queued and counted.
func (b *bulk) reset() {
	b.args = b.args[:0]
	b.sent = 0
}
