package job

import "slices"

// A singleton waits until no job of its name is active but others that wait for the same. They go in order of submission.

// countName counts an array with a name of its own.
func (m *Machine) countName(a *array, by int) {
	if !a.spec.Job.Named {
		return
	}
	if m.names[a.spec.Job.Name] += by; m.names[a.spec.Job.Name] == 0 {
		delete(m.names, a.spec.Job.Name)
	}
	if by < 0 {
		m.unsingle(a)
		m.releaseSingle(a.spec.Job.Name)
	}
}

// unsingle takes an array out of those that wait for being the only one.
func (m *Machine) unsingle(a *array) {
	list := m.singles[a.spec.Job.Name]
	i := slices.Index(list, a)
	if i < 0 {
		return
	}
	if list = slices.Delete(list, i, i+1); len(list) == 0 {
		delete(m.singles, a.spec.Job.Name)
	} else {
		m.singles[a.spec.Job.Name] = list
	}
}

func (m *Machine) releaseSingle(name string) {
	list := m.singles[name]
	if len(list) == 0 || m.names[name] > len(list) {
		return
	}
	a := list[0]
	for i := range a.wait.deps {
		if d := &a.wait.deps[i]; d.Scheme == "singleton" {
			m.met(a, d)
		}
	}
	m.dependsMet(a)
}
