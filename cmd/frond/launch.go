package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/frond-hpc/frond/overlay"
)

// launcher is how the brokers of an instance are started, told to end and seen to die. Its methods belong to the supervisor's goroutine.
type launcher interface {
	// launch begins to start all brokers. The end of each comes as evExit.
	launch() error
	// signal: SIGTERM has the brokers leave and exit, SIGKILL ends them at once.
	signal(sig syscall.Signal)
	// left tells whether anything of the launch is not over yet.
	left() bool
	// why says what is known of a broker that is not online.
	why(rank int) string
	// close lets go of everything; what is not over ends.
	close()
}

// evExit: a broker has ended, or is known to be dead.
type evExit struct {
	rank  int
	pid   int    // on its host
	where string // " on node n3"; empty for this host
	clean bool   // as it was told to
	how   string // exit code or signal
}

// portRange is the ports that Frond may listen on.
type portRange struct{ from, to int }

// parsePorts reads FROM-TO or one number; empty is any port.
func parsePorts(text string) (portRange, error) {
	if text == "" {
		return portRange{}, nil
	}
	a, b, two := strings.Cut(text, "-")
	if !two {
		b = a
	}
	from, err1 := strconv.Atoi(a)
	to, err2 := strconv.Atoi(b)
	if err1 != nil || err2 != nil || from < 1 || to > 65535 || from > to {
		return portRange{}, fmt.Errorf("--port-range %s: want FROM-TO, with ports from 1 to 65535", text)
	}
	return portRange{from, to}, nil
}

// listen tries the ports in turn.
func (r portRange) listen(try func(port string) error) error {
	if r.from == 0 {
		return try("0")
	}
	var err error
	for port := r.from; port <= r.to; port++ {
		if err = try(strconv.Itoa(port)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no port of --port-range %d-%d is free on this host (the last error: %w): each broker needs one, and the supervisor one more, so give more ports or leave --port-range away", r.from, r.to, err)
}

// interfaceAddrs lists this host's IPv4 addresses that --interface allows, loopback only where there is no other: those of an interface, those within NET/BITS, or
// one address; all if which is empty.
func interfaceAddrs(which string) ([]string, error) {
	var within *net.IPNet
	if _, n, err := net.ParseCIDR(which); err == nil {
		within = n
	}
	ifs, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var addrs, loops, names []string
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		names = append(names, i.Name)
		list, _ := i.Addrs()
		for _, a := range list {
			ipnet, ok := a.(*net.IPNet)
			if !ok || ipnet.IP.To4() == nil {
				continue
			}
			ip := ipnet.IP.String()
			if which != "" && which != i.Name && which != ip && (within == nil || !within.Contains(ipnet.IP)) {
				continue
			}
			if ipnet.IP.IsLoopback() {
				loops = append(loops, ip)
			} else {
				addrs = append(addrs, ip)
			}
		}
	}
	if len(addrs) == 0 { // nothing else: the nodes are all on this host
		addrs = loops
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("--interface %s: this host has no such interface with an IPv4 address that is up (there are %s)", which, strings.Join(names, ", "))
	}
	return addrs, nil
}

// spreadTransport listens within the port range, on one address or all, and says where it is reached.
type spreadTransport struct {
	overlay.Transport
	bind  string // address to listen on
	host  string // as others call it
	ports portRange
	again string // tcp://HOST:PORT to listen on as before; empty = none
	bound func(addr string) error
}

// Listen ignores addr.
func (t *spreadTransport) Listen(string) (string, error) {
	ports := t.ports
	if _, port, err := net.SplitHostPort(strings.TrimPrefix(t.again, "tcp://")); err == nil {
		n, _ := strconv.Atoi(port)
		ports = portRange{n, n}
	}
	var at string
	err := ports.listen(func(port string) (err error) {
		if port == "0" {
			port = "*"
		}
		at, err = t.Transport.Listen("tcp://" + t.bind + ":" + port)
		return err
	})
	if err != nil {
		return "", err
	}
	addr := "tcp://" + t.host + at[strings.LastIndexByte(at, ':'):]
	return addr, t.bound(addr)
}
