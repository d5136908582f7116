package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/frond-hpc/frond/broker/api"
	"github.com/frond-hpc/frond/overlay/wire"
	"github.com/frond-hpc/frond/resource"
	"github.com/stretchr/testify/require"
)

func fixedNodes() []api.NodeStatus {
	node := func(i int, name string) resource.Node {
		return resource.Node{Index: i, Name: name, Broker: int32(i), Cores: resource.MaskRange(0, 3), GPUs: resource.MaskOf(0)}
	}
	return []api.NodeStatus{
		{Node: node(0, "n0"), Online: true},
		{Node: node(1, "n1"), Online: true, Used: resource.NodeAlloc{Node: 1, Cores: resource.MaskRange(0, 1)}},
		{Node: node(2, "n2"), Online: true, Used: resource.NodeAlloc{Node: 2, Cores: resource.MaskRange(0, 3), GPUs: resource.MaskOf(0)}, Drained: true, Reason: "bad disk", Time: 1700000000},
		{Node: node(3, "n3"), Drained: true, Reason: "bad disk", Time: 1700000000},
		{Node: node(4, "n4")},
	}
}

func statusOf(f *fakeInstance, nodes []api.NodeStatus) {
	serveCall(f, api.ResourceStatus, func(api.Empty) (api.ResourceStatusRep, error) { return api.ResourceStatusRep{Nodes: nodes}, nil })
}

func TestResourceList(t *testing.T) {
	f := newFakeInstance(t)
	statusOf(f, fixedNodes())
	require.Equal(t, result{0, `     STATE NNODES   NCORES    NGPUS NODELIST
      free      2        6        2 n[0-1]
 allocated      2        6        1 n[1-2]
      down      3       12        3 n[2-4]
`, ""}, f.frond("resource", "list"))
	require.Equal(t, result{0, "6 0-1\n", ""}, f.frond("resource", "list", "-n", "-s", "free", "-o", "{ncores} {ranks}"))
	require.Equal(t, "{\"resources\":[{\"ncores\":12,\"ngpus\":3,\"nnodes\":3,\"nodelist\":\"n[2-4]\",\"properties\":[],\"ranks\":\"2-4\",\"state\":\"down\"}]}\n",
		f.frond("resource", "list", "--json", "-s", "down").out)
	require.Equal(t, result{1, "", "frond resource list: unknown state \"odd\": there are free, allocated, down\n"}, f.frond("resource", "list", "-s", "odd"))
	require.Equal(t, "5 Nodes, 20 Cores, 5 GPUs\n", f.frond("resource", "info").out)
	require.Equal(t, "2 Nodes, 6 Cores, 2 GPUs\n", f.frond("resource", "info", "-s", "free").out)

	nodes := fixedNodes()[:2]
	nodes[0].Node.Properties = []string{"big", "ssd"}
	statusOf(f, nodes)
	require.Equal(t, result{0, `     STATE PROPERTIES NNODES   NCORES    NGPUS NODELIST
      free big,ssd         1        4        1 n0
      free                 1        2        1 n1
 allocated                 1        2        0 n1
      down                 0        0        0
`, ""}, f.frond("resource", "list"), "by properties, and with a line for what is empty")
	require.NotContains(t, f.frond("resource", "list", "--skip-empty").out, "down")
}

func TestResourcesOfQueues(t *testing.T) {
	f := newFakeInstance(t)
	nodes := fixedNodes()
	nodes[0].Node.Properties = []string{"big", "ssd"}
	nodes[1].Node.Properties = []string{"ssd"}
	statusOf(f, nodes)
	serveCall(f, api.Queues, func(api.Empty) (api.QueuesRep, error) {
		return api.QueuesRep{Queues: []api.QueueInfo{{Name: "all"}, {Name: "both", Requires: []string{"ssd", "big"}}, {Name: "small", Requires: []string{"^big", "ssd"}}}}, nil
	})
	for queues, want := range map[string]string{"all": "5", "both": "1", "small": "1", "both,small": "2"} {
		require.Equal(t, want+" Node", strings.SplitN(f.frond("resource", "info", "-q", queues).out, "s", 2)[0][:len(want)+5], queues)
	}
	require.Equal(t, "free n0\n", f.frond("resource", "list", "--skip-empty", "-n", "-q", "both", "-o", "{state} {nodelist}").out)
	require.Equal(t, "n1\n", f.frond("resource", "status", "-n", "-q", "small", "-o", "{nodelist}").out)
	require.Equal(t, 1, strings.Count(f.frond("resource", "status", "--json", "-q", "small").out, `"rank"`))
	require.Equal(t, result{1, "", "frond resource info: there is no queue \"x\"; there are all, both, small\n"}, f.frond("resource", "info", "-q", "all,x"))
}

func TestResourceStatus(t *testing.T) {
	f := newFakeInstance(t)
	statusOf(f, fixedNodes())
	require.Equal(t, result{0, `     STATE UP NNODES NODELIST
     avail  ✔      2 n[0-1]
     avail  ✗      1 n4
  draining  ✔      1 n2
   drained  ✗      1 n3
`, ""}, f.frond("resource", "status"))
	require.Contains(t, f.frondWith("", map[string]string{"LANG": "C"}, "resource", "status").out, "avail  n      1 n4")
	require.Equal(t, "  draining  ✔      1 2               bad disk                  n2\n   drained  ✗      1 3               bad disk                  n3\n",
		f.frond("resource", "status", "-n", "-s", "drain", "-o", "long").out)
	require.Equal(t, 2, strings.Count(f.frond("resource", "status", "-n", "-s", "offline").out, "\n"))
	var all struct{ Nodes []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(f.frond("resource", "status", "--json").out), &all))
	require.Len(t, all.Nodes, 5)
	require.Equal(t, "draining", all.Nodes[2]["state"])
	require.Equal(t, "bad disk", all.Nodes[2]["reason"])
	require.Equal(t, 1, f.frond("resource", "status", "-s", "odd").code)
}

func TestResourceDrain(t *testing.T) {
	f := newFakeInstance(t)
	statusOf(f, fixedNodes())
	var drained, undrained api.DrainReq
	serveCall(f, api.ResourceDrain, func(r api.DrainReq) (api.Empty, error) { drained = r; return api.Empty{}, nil })
	serveCall(f, api.ResourceUndrain, func(r api.DrainReq) (api.Empty, error) {
		undrained = r
		return api.Empty{}, wire.Errorf(wire.Invalid, "node 3 is not drained")
	})
	require.Equal(t, result{}, f.frond("resource", "drain", "n[0-1]", "bad", "disk"))
	require.Equal(t, api.DrainReq{Targets: "n[0-1]", Reason: "bad disk", Strict: true}, drained)
	f.frond("resource", "drain", "-u", "0", "new reason")
	require.Equal(t, api.DrainReq{Targets: "0", Reason: "new reason"}, drained)
	f.frond("resource", "drain", "-f", "0", "new reason")
	require.Equal(t, api.DrainReq{Targets: "0", Reason: "new reason", Update: true, Strict: true}, drained)
	require.Equal(t, result{1, "", "frond resource undrain: node 3 is not drained\n"}, f.frond("resource", "undrain", "-f", "3"))
	require.Equal(t, api.DrainReq{Targets: "3", Force: true}, undrained)
	f.frond("resource", "undrain", "-u", "3")
	require.Equal(t, api.DrainReq{Targets: "3", Force: true}, undrained)
	require.Equal(t, "Nov14 22:13  draining 2        bad disk                       n2\nNov14 22:13  drained  3        bad disk                       n3\n",
		f.frond("resource", "drain", "-n").out)
	require.Equal(t, 2, strings.Count(f.frond("resource", "drain", "--json").out, "rank"))
}

func TestResourceR(t *testing.T) {
	f := newFakeInstance(t)
	statusOf(f, fixedNodes()[:2])
	r, err := resource.DecodeR([]byte(f.frond("resource", "R").out))
	require.NoError(t, err)
	require.Len(t, r.Nodes, 2)
	require.Equal(t, "n1", r.Nodes[1].Name)
	require.Equal(t, 4, r.Nodes[1].Cores.Count())
}
