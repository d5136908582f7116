package parallel

import (
	"strconv"
	"strings"
)

// ResultFiles are the names of the files that hold what a job wrote, with its sequence number, and its standard error.
type ResultFiles struct{ Stdout, Stderr, Seq string }

// Results says where --results puts files: t is its value. names are those of the sources (--header), "1", "2" … where nil. With a
// replacement string t names the file, or the directory if it ends in a slash; else it is the root of a tree of the arguments.
func Results(t *Template, j *Job, e *Env, names []string) ResultFiles {
	text := t.Text(j, e)
	switch {
	case t.Replaces() && !strings.HasSuffix(text, "/"):
		return ResultFiles{text, text + ".err", text + ".seq"}
	case t.Replaces():
		text = strings.TrimRight(text, "/")
	default:
		for i, a := range j.Args {
			name := strconv.Itoa(i + 1)
			if i < len(names) {
				name = names[i]
			}
			text += "/" + resultName(name) + "/" + resultName(a)
		}
	}
	return ResultFiles{text + "/stdout", text + "/stderr", text + "/seq"}
}

var resultReplacer = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "/", `\_`)

// resultName makes a value the name of a directory.
func resultName(s string) string { return resultReplacer.Replace(s) }
