package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// source is one parsed file of a package; Path is the package's below the module ("" = root).
type source struct {
	pkg, file string
	fset      *token.FileSet
	ast       *ast.File
	test      bool
}

// finding is a broken rule at a place.
type finding struct {
	rule, where string // together the key of an exception
	text        string
}

func (f finding) key() string { return f.rule + " " + f.where }

func parse(pkg, file string, text any) (source, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, text, parser.ParseComments|parser.SkipObjectResolution)
	return source{pkg, file, fset, f, strings.HasSuffix(file, "_test.go")}, err
}

// matches tells whether path is pattern or, with "/...", at or below it.
func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func matchesAny(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, path) })
}

// allowedImports returns the row of imports with the longest pattern for a package.
func allowedImports(pkg string) (list []string, ok bool) {
	best := -1
	for pattern, allowed := range imports {
		exact := 0
		if pattern == pkg {
			exact = 1000
		}
		if matches(pattern, pkg) && len(pattern)+exact > best {
			best, list = len(pattern)+exact, allowed
		}
	}
	return list, best >= 0
}

// check returns everything that is wrong with one file.
func check(s source) []finding {
	var all []finding
	add := func(rule, where, format string, args ...any) {
		all = append(all, finding{rule, where, fmt.Sprintf(format, args...)})
	}
	checkImports(s, add)
	if s.test {
		return all
	}
	if matchesAny(pure, s.pkg) {
		checkPurity(s, add)
	}
	if !matchesAny(mayGo, s.pkg) {
		checkGoStatements(s, add)
	}
	checkSizes(s, add)
	checkDocs(s, add)
	return all
}

type adder func(rule, where, format string, args ...any)

func checkImports(s source, add adder) {
	allowed, known := allowedImports(s.pkg)
	if !known {
		add("imports", s.pkg, "package %s has no row in test/arch/rules_test.go", s.pkg)
		return
	}
	for _, spec := range s.ast.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		for lib, users := range onlyIn {
			if matches(lib+"/...", path) && !matchesAny(users, s.pkg) && !s.test {
				add("imports", s.pkg+" "+path, "%s imports %s; only %v may", s.file, path, users)
			}
		}
		ours, ok := strings.CutPrefix(path, module)
		if !ok || ours == s.pkg {
			continue
		}
		if matchesAny(neverImported, ours) && !(strings.HasPrefix(s.pkg, "test/") && strings.HasPrefix(ours, "test/")) {
			add("imports", s.pkg+" "+ours, "%s imports %s, which nobody may", s.file, ours)
		}
		if !s.test && !matchesAny(allowed, ours) {
			add("imports", s.pkg+" "+ours, "%s imports %s; package %s may import %v", s.file, ours, s.pkg, allowed)
		}
	}
}

func checkPurity(s source, add adder) {
	for _, spec := range s.ast.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		for _, bad := range impure {
			if matches(bad+"/...", path) {
				add("purity", s.pkg+" "+path, "%s: a pure package must not import %s", s.file, path)
			}
		}
	}
	checkGoStatements(s, add)
	ast.Inspect(s.ast, func(n ast.Node) bool {
		what := ""
		switch n := n.(type) {
		case *ast.ChanType, *ast.SendStmt, *ast.SelectStmt:
			what = "a channel"
		case *ast.UnaryExpr:
			if n.Op == token.ARROW {
				what = "a channel"
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(impureTime, n.Sel.Name) {
				what = "time." + n.Sel.Name
			}
		}
		if what != "" {
			add("purity", s.pkg, "%s: a pure package must not use %s", s.fset.Position(n.Pos()), what)
		}
		return true
	})
}

func checkGoStatements(s source, add adder) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if g, ok := n.(*ast.GoStmt); ok {
			add("go", s.pkg, "%s: package %s must not start goroutines", s.fset.Position(g.Pos()), s.pkg)
		}
		return true
	})
}

func checkSizes(s source, add adder) {
	lines := s.fset.File(s.ast.FileStart).LineCount()
	if lines > maxFile {
		add("file", s.file, "%s has %d lines; the limit is %d", s.file, lines, maxFile)
	}
	for _, d := range s.ast.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
		if n > maxFunc {
			add("func", s.pkg+"."+f.Name.Name, "%s: %s has %d lines; the limit is %d", s.fset.Position(f.Pos()), f.Name.Name, n, maxFunc)
		}
	}
}

// checkDocs wants a comment on every exported name of a package that others can import.
func checkDocs(s source, add adder) {
	if s.ast.Name.Name == "main" || matches("test/...", s.pkg) {
		return
	}
	missing := func(name *ast.Ident) {
		add("doc", s.pkg+"."+name.Name, "%s: exported %s has no comment", s.fset.Position(name.Pos()), name.Name)
	}
	for _, d := range s.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
				missing(d.Name)
			}
		case *ast.GenDecl:
			checkSpecDocs(d, missing)
		}
	}
}

// checkSpecDocs accepts the comment of a group for all in it.
func checkSpecDocs(d *ast.GenDecl, missing func(*ast.Ident)) {
	if d.Doc != nil {
		return
	}
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			if spec.Name.IsExported() && spec.Doc == nil && spec.Comment == nil {
				missing(spec.Name)
			}
		case *ast.ValueSpec:
			if spec.Names[0].IsExported() && spec.Doc == nil && spec.Comment == nil {
				missing(spec.Names[0])
			}
		}
	}
}

func exportedReceiver(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return true
	}
	exported := false
	ast.Inspect(f.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			exported = exported || id.IsExported()
			return false
		}
		return true
	})
	return exported
}

// checkPackageComments wants a comment above the package clause of one file of each package.
func checkPackageComments(files []source) []finding {
	commented := map[string]bool{}
	for _, s := range files {
		if !s.test {
			commented[s.pkg] = commented[s.pkg] || s.ast.Doc != nil
		}
	}
	var all []finding
	for pkg, ok := range commented {
		if !ok {
			all = append(all, finding{"package", pkg, fmt.Sprintf("package %s has no package comment", pkg)})
		}
	}
	return all
}
