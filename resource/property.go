package resource

import (
	"fmt"
	"slices"
	"strings"

	"github.com/frond-hpc/frond/jobspec"
	"github.com/frond-hpc/frond/resource/hostlist"
	"github.com/frond-hpc/frond/resource/idset"
)

// Property is a name for some nodes, that jobs ask for with --requires (Flux RFC 20, 31).
type Property struct {
	Name  string
	text  string // of its nodes; "" = all
	ranks idset.Set
	hosts map[string]bool // instead of ranks
}

// ParseProperty reads NAME, for all nodes, or NAME:TARGETS, with TARGETS an idset of ranks or a hostlist.
func ParseProperty(text string) (Property, error) {
	name, targets, some := strings.Cut(text, ":")
	p := Property{Name: name, text: targets}
	if err := jobspec.CheckProperty(strings.TrimPrefix(name, "+")); err != nil {
		return p, err
	}
	if !some {
		return p, nil
	}
	if strings.Trim(targets, "0123456789-,[] ") == "" {
		set, err := idset.Parse(strings.Trim(targets, "[] "))
		if err == nil && set.Empty() {
			err = fmt.Errorf("it names no ranks or hosts")
		}
		if err != nil {
			return p, fmt.Errorf("property %s: %w", name, err)
		}
		p.ranks = set
		return p, nil
	}
	hosts, err := hostlist.Parse(targets)
	if err != nil {
		return p, fmt.Errorf("property %s: %w", name, err)
	}
	p.hosts = make(map[string]bool, len(hosts))
	for _, h := range hosts {
		p.hosts[h] = true
	}
	return p, nil
}

// ParseProperties reads several.
func ParseProperties(texts []string) ([]Property, error) {
	list := make([]Property, len(texts))
	for i, t := range texts {
		var err error
		if list[i], err = ParseProperty(t); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Has tells whether a node is among those that p is for.
func (p *Property) Has(n *Node) bool {
	return p.text == "" || p.hosts[n.Name] || p.hosts == nil && p.ranks.Has(n.Index)
}

// SetProperties gives nodes the properties that are for them.
func SetProperties(nodes []Node, list []Property) {
	for i := range list {
		for k := range nodes {
			if list[i].Has(&nodes[k]) {
				nodes[k].AddProperty(list[i].Name)
			}
		}
	}
}

// Missing is an error for a rank or host that is none of the nodes.
func (p *Property) Missing(nodes []Node) error {
	names := make(map[string]bool, len(nodes))
	var ranks idset.Set
	for i := range nodes {
		names[nodes[i].Name] = true
		ranks.Add(nodes[i].Index)
	}
	if left := p.ranks.Minus(ranks); !left.Empty() {
		return fmt.Errorf("property %s: there is no rank %s; there are %s", p.Name, clip(left.String()), clip(ranks.String()))
	}
	var left []string
	for h := range p.hosts {
		if !names[h] {
			left = append(left, h)
		}
	}
	if len(left) > 0 {
		slices.Sort(left)
		return fmt.Errorf("property %s: there is no node %s", p.Name, clip(hostlist.Encode(left)))
	}
	return nil
}

// AddProperty gives a node a property.
func (n *Node) AddProperty(name string) {
	if i, has := slices.BinarySearch(n.Properties, name); !has {
		n.Properties = slices.Insert(slices.Clone(n.Properties), i, name)
	}
}
