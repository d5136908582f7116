package parallel

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Strings are the replacement strings that a user may rename; empty = the usual one.
type Strings struct {
	Arg, NoExt, Base, Dir, BaseNoExt, Seq, Slot string
}

// Syntax is which replacement strings a template may hold.
type Syntax struct {
	Strings
	Plus    bool           // --plus
	Columns map[string]int // --header: positions by name, from 1
}

// token is a part of a template: text, or a replacement.
type token struct {
	text string // of a literal; or the variable of opVar
	repl bool
	op   op
	pos  int       // 0 = all arguments; n = the n-th, -n = the n-th from the end
	word *Template // instead of all of the above: one word, quoted after its replacements were made
}

// Template is a command line, or another string, with replacement strings.
type Template struct {
	tokens []token
	raw    bool // the first word holds a replacement: nothing is quoted
	slot   bool
	total  bool
}

// UsesSlot tells whether the job's slot number stands in the template.
func (t *Template) UsesSlot() bool { return t.slot }

// UsesTotal tells whether the total number of jobs stands in the template.
func (t *Template) UsesTotal() bool { return t.total }

// Replaces tells whether there is any replacement string.
func (t *Template) Replaces() bool {
	return slices.ContainsFunc(t.tokens, func(k token) bool { return k.repl })
}

// names are the replacement strings without position: the text and what it does. Longest first, so that one that begins with another
// is found.
func (y *Syntax) names() []named {
	list := []named{}
	for _, n := range []struct {
		own, usual string
		op         op
	}{{y.Arg, "{}", opArg}, {y.NoExt, "{.}", opNoExt}, {y.Base, "{/}", opBase}, {y.Dir, "{//}", opDir}, {y.BaseNoExt, "{/.}", opBaseNoExt},
		{y.Seq, "{#}", opSeq}, {y.Slot, "{%}", opSlot}} {
		text := n.usual
		if n.own != "" {
			text = n.own
		}
		list = append(list, named{text, n.op})
	}
	if y.Plus {
		for text, o := range plusOps {
			list = append(list, named{"{" + text + "}", o})
		}
	}
	slices.SortFunc(list, func(a, b named) int { return len(b.text) - len(a.text) })
	return list
}

type named struct {
	text string
	op   op
}

// Parse reads a template.
func Parse(text string, y *Syntax) (*Template, error) {
	t := &Template{}
	names := y.names()
	lit := 0
	for i := 0; i < len(text); {
		k, n, err := y.match(names, text[i:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			i++
			continue
		}
		t.literal(text[lit:i])
		t.tokens = append(t.tokens, k)
		t.slot = t.slot || k.op == opSlot || k.op == opSlotPadded || k.op == opVar && k.text == plusVars["slot"]
		t.total = t.total || k.op == opTotal || k.op == opSeqPadded
		i += n
		lit = i
	}
	t.literal(text[lit:])
	return t, nil
}

func (t *Template) literal(s string) {
	if s != "" {
		t.tokens = append(t.tokens, token{text: s})
	}
}

// match reads a replacement at the beginning of s, of so many bytes; 0 = there is none.
func (y *Syntax) match(names []named, s string) (token, int, error) {
	for _, n := range names {
		if !strings.HasPrefix(s, n.text) {
			continue
		}
		k := token{repl: true, op: n.op}
		if n.op == opVar {
			k.text = plusVars[strings.Trim(n.text, "{}")]
		}
		return k, len(n.text), nil
	}
	if s[0] != '{' {
		return token{}, 0, nil
	}
	if strings.HasPrefix(s, "{=") {
		return token{}, 0, perlError(s)
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return token{}, 0, nil
	}
	if k, ok := y.positional(names, s[1:end]); ok {
		return k, end + 1, nil
	}
	if y.Plus && dynamic(s[1:end]) {
		return token{}, 0, fmt.Errorf("%s: of --plus, replacement strings with a parameter are not supported", s[:end+1])
	}
	return token{}, 0, nil
}

// positional reads what stands in braces with a position or a column's name in front: 2 2. -1/.
func (y *Syntax) positional(names []named, s string) (token, bool) {
	n := 0
	for n < len(s) && (s[n] >= '0' && s[n] <= '9' || n == 0 && s[n] == '-') {
		n++
	}
	if pos, err := strconv.Atoi(s[:n]); n > 0 && err == nil {
		if o, ok := suffix(names, s[n:]); ok {
			return token{repl: true, op: o, pos: pos}, true
		}
	}
	for _, n := range names {
		rest, ok := strings.CutPrefix(n.text, "{")
		name, has := strings.CutSuffix(s+"}", rest)
		if pos := y.Columns[name]; ok && has && pos > 0 && !n.op.ofJob() {
			return token{repl: true, op: n.op, pos: pos}, true
		}
	}
	return token{}, false
}

func suffix(names []named, s string) (op, bool) {
	for _, n := range names {
		if n.text == "{"+s+"}" && !n.op.ofJob() {
			return n.op, true
		}
	}
	return 0, false
}

// dynamic tells whether s, from within braces, is one of --plus with a parameter.
func dynamic(s string) bool {
	s = strings.TrimLeft(s, "-0123456789")
	return len(s) > 1 && strings.ContainsRune(":#%/^,", rune(s[0]))
}

// perlError explains that {= =} is not there, or is not closed.
func perlError(s string) error {
	end := strings.Index(s, "=}")
	if end < 0 {
		return fmt.Errorf("%.40s: {= is not closed by =}", s)
	}
	return fmt.Errorf("%s: Perl expressions are not supported", s[:end+2])
}

// ParseCommand reads a command line. Its words are joined by spaces; with quote (-q) what is not replaced is quoted. A command without
// replacement string has the arguments behind it.
func ParseCommand(words []string, quote bool, y *Syntax) (*Template, error) {
	parsed := make([]*Template, len(words))
	found := false
	for i, w := range words {
		t, err := Parse(w, y)
		if err != nil {
			return nil, err
		}
		parsed[i] = t
		found = found || t.Replaces()
	}
	c := &Template{}
	for i, t := range parsed {
		if i > 0 {
			c.literal(" ")
		}
		c.add(t, quote)
	}
	if !found {
		if len(words) > 0 {
			c.literal(" ")
		}
		c.tokens = append(c.tokens, token{repl: true})
	}
	c.raw = !quote && c.rawFirst()
	return c, nil
}

// add appends a word of a command.
func (t *Template) add(o *Template, quote bool) {
	t.slot, t.total = t.slot || o.slot, t.total || o.total
	switch {
	case !quote:
		t.tokens = append(t.tokens, o.tokens...)
	case !o.Replaces():
		t.literal(Quote(o.text()))
	default:
		t.tokens = append(t.tokens, token{repl: true, word: o})
	}
}

// text is that of a template without replacements.
func (t *Template) text() string {
	if len(t.tokens) == 0 {
		return ""
	}
	return t.tokens[0].text
}

// rawFirst tells whether the first word holds a replacement: the line is then a command that the arguments give, and is not quoted. An
// assignment is no such word.
func (t *Template) rawFirst() bool {
	for i := range t.tokens {
		k := &t.tokens[i]
		switch {
		case k.repl:
			return true
		case strings.ContainsAny(k.text, space+"="):
			return false
		}
	}
	return false
}

const space = " \t\n"

// Job is what one command line is made of.
type Job struct {
	Seq  int // from 1
	Slot int // from 1
	Args []string
	Rows int // records that Args came from
}

// Env is what is the same for all jobs of a run.
type Env struct {
	Total   int  // number of jobs, where the template asks for it
	Slots   int  // that run at a time
	Context bool // -X, -N: words with {} in them are repeated for each argument
}

// Command is the command line of a job.
func (t *Template) Command(j *Job, e *Env) string {
	r := renderer{job: j, env: e, sep: " ", quote: !t.raw}
	return r.all(t)
}

// Text is the template with the arguments as they are.
func (t *Template) Text(j *Job, e *Env) string {
	r := renderer{job: j, env: &Env{Total: e.Total, Slots: e.Slots}, sep: " "}
	return r.all(t)
}

// renderer makes the replacements for one job.
type renderer struct {
	job   *Job
	env   *Env
	sep   string // between arguments
	quote bool
	b     []byte
}

func (r *renderer) all(t *Template) string {
	if r.env.Context && len(r.job.Args) > 1 {
		r.words(t.tokens)
	} else {
		for i := range t.tokens {
			r.token(&t.tokens[i], -1)
		}
	}
	return string(r.b)
}

// words puts the tokens of a line, repeating each word that holds an argument without position for each argument.
func (r *renderer) words(tokens []token) {
	var word []token
	end := func() {
		repeat := slices.ContainsFunc(word, func(k token) bool { return k.repl && k.word == nil && k.pos == 0 && !k.op.ofJob() })
		for n := 0; n == 0 || repeat && n < len(r.job.Args); n++ {
			if n > 0 {
				r.b = append(r.b, r.sep...)
			}
			for i := range word {
				r.token(&word[i], n)
			}
		}
		word = word[:0]
	}
	for _, k := range tokens {
		for s := k.text; !k.repl && s != ""; {
			n := strings.IndexAny(s, space)
			switch n {
			case 0:
				end()
				r.b = append(r.b, s[0])
				s = s[1:]
				continue
			case -1:
				n = len(s)
			}
			word = append(word, token{text: s[:n]})
			s = s[n:]
		}
		if k.repl {
			word = append(word, k)
		}
	}
	end()
}

// token puts one token; of an argument without position only the n-th, or all for -1.
func (r *renderer) token(k *token, n int) {
	args := r.job.Args
	switch {
	case k.word != nil:
		r.word(k.word)
	case !k.repl || k.op == opVar:
		r.b = append(r.b, k.text...)
	case k.op.ofJob():
		r.number(k.op)
	case k.pos != 0:
		if i := place(k.pos, len(args)); i >= 0 {
			r.arg(k.op, args[i])
		}
	case n >= 0:
		r.arg(k.op, args[n])
	default:
		for i := range args {
			if i > 0 {
				r.b = append(r.b, r.sep...)
			}
			r.arg(k.op, args[i])
		}
	}
}

// place is the index of position pos among n, -1 if there is none.
func place(pos, n int) int {
	if pos < 0 {
		pos += n + 1
	}
	if pos < 1 || pos > n {
		return -1
	}
	return pos - 1
}

func (r *renderer) arg(o op, s string) {
	s = o.apply(s)
	if r.quote {
		s = Quote(s)
	}
	r.b = append(r.b, s...)
}

// argBreak stands between arguments within a word that is quoted as a whole. No argument has it.
const argBreak = "\x00"

// word puts a word of -q: what the arguments make of it, each part quoted.
func (r *renderer) word(t *Template) {
	in := renderer{job: r.job, env: r.env, sep: argBreak}
	for i, s := range strings.Split(in.all(t), argBreak) {
		if i > 0 {
			r.b = append(r.b, ' ')
		}
		r.b = append(r.b, Quote(s)...)
	}
}

func (r *renderer) number(o op) {
	width, n := 0, r.job.Seq
	switch o {
	case opSlot:
		n = r.job.Slot
	case opSlotPadded:
		n, width = r.job.Slot, digits(r.env.Slots)
	case opTotal:
		n = r.env.Total
	case opSeqPadded:
		width = digits(r.env.Total)
	}
	s := strconv.Itoa(n)
	for range width - len(s) {
		r.b = append(r.b, '0')
	}
	r.b = append(r.b, s...)
}

func digits(n int) int { return len(strconv.Itoa(max(n, 1))) }
