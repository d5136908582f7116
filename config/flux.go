package config

import (
	"fmt"

	"github.com/BurntSushi/toml"
)

// FluxResource is the table [resource] of a configuration of Flux, as far as it describes resources.
type FluxResource struct {
	Path  string      `toml:"path"`
	Hosts []FluxHosts `toml:"config"`
}

// FluxHosts is an entry of its config: cores, gpus (idsets) and properties of hosts (a hostlist).
type FluxHosts struct {
	Hosts      string   `toml:"hosts"`
	Cores      string   `toml:"cores"`
	GPUs       string   `toml:"gpus"`
	Properties []string `toml:"properties"`
}

// ReadFlux reads a configuration file of Flux. Other tables are not looked at.
func ReadFlux(path string) (FluxResource, error) {
	var file struct {
		Resource FluxResource `toml:"resource"`
	}
	if _, err := toml.DecodeFile(path, &file); err != nil {
		return FluxResource{}, fmt.Errorf("%s: %w", path, err)
	}
	return file.Resource, nil
}
