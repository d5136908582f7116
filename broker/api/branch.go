package api

import (
	"github.com/frond-hpc/frond/broker/rpc"
	"github.com/frond-hpc/frond/jobspec"
)

// The protocol between a parent and its branches. A branch's leader is a client of its parent; it asks, and the parent's words come as a
// stream.
//
//	start      branch.hello opens the stream. Its first order has the session's number and the list of all that the branch holds, as the
//	           parent knows. The branch gives up what it has beyond that, and answers with the first branch.report: what of the list has
//	           ended, and what never arrived, which is the parent's again. The parent then repeats the exceptions for what is held, and what was changed of it.
//	operation  parent → branch: orders with grants, exceptions, a wish to have something back, questions of clients, the end.
//	           branch → parent: branch.report, one after the other, answered when durable: what began, how elements ended, what is given
//	           back; branch.answer to questions. What the parent does not wait for is told with much else, some times a second.
//	failure    when the stream breaks, whoever it was, all that was under way is forgotten on both sides, and the branch says hello
//	           again: the list settles what got lost. A report of an earlier session is refused with Resync. What a branch holds stays
//	           its own until it gives it back, or nothing of it runs any more: then the parent takes it for forfeited.
//	end        the parent grants nothing more and wants all back; when the branch holds nothing, an order ends it.
var (
	// BranchHello begins a session. Errors: Denied (not expected, or of another version), NotFound.
	BranchHello = rpc.Method[BranchHelloReq, BranchOrder]{Topic: "branch.hello", Stream: true}
	// BranchReport is answered when it is durable. Errors: Resync (that session is over), Unavailable.
	BranchReport = rpc.Method[BranchReportReq, Empty]{Topic: "branch.report", Idempotent: true}
	// BranchAnswer passes an answer to a question on.
	BranchAnswer = rpc.Method[BranchAnswerReq, Empty]{Topic: "branch.answer"}
	// BranchPass asks a branch something in the name of a client; for services of the leader. Errors: Unavailable, and the branch's.
	BranchPass = rpc.Method[BranchPassReq, BranchPassRep]{Topic: "branch.pass", Stream: true}
	// BranchTop asks the parent something in the name of a client of this branch, in the end the instance that has the queue; for services of the
	// leader. Errors: Lost (the parent cannot be reached), and the parent's.
	BranchTop = rpc.Method[BranchTopReq, BranchPassRep]{Topic: "branch.top"}
	// BranchSplit makes branches, or with Widths empty does away with them: answered when what is there is known to fit, not when all is
	// done. Errors: Invalid (more branches than nodes), Busy (it has branches), Denied (it is a branch).
	BranchSplit = rpc.Method[BranchSplitReq, BranchStatusRep]{Topic: "branch.split", Idempotent: true}
	// BranchStatus tells of an instance's branches.
	BranchStatus = rpc.Method[Empty, BranchStatusRep]{Topic: "branch.status", Idempotent: true}

	// BranchHeld (for the service "branch") is all that a branch holds, with the exceptions for it.
	BranchHeld = rpc.Method[BranchHeldReq, BranchHeldRep]{Topic: "job.branch-held", Idempotent: true}
	// BranchUnfit (for the service "branch") is how many active arrays fit none of the branches that there are, or were last.
	BranchUnfit = rpc.Method[Empty, BranchUnfitRep]{Topic: "job.branch-unfit", Idempotent: true}
	// BranchJobs (for the service "branch") lists the unfinished jobs that are branches, of an earlier leader perhaps.
	BranchJobs = rpc.Method[Empty, BranchJobsRep]{Topic: "job.branch-jobs", Idempotent: true}
	// BranchTold (for the service "branch") takes a report; answered when it is durable.
	BranchTold = rpc.Method[BranchReportReq, Empty]{Topic: "job.branch-told", Idempotent: true}
)

type (
	// BranchHelloReq says who is there.
	BranchHelloReq struct {
		Branch  int    `msgpack:"branch"`
		Key     string `msgpack:"key"` // what the parent gave it to be known by
		Version string `msgpack:"version"`
		Nodes   int    `msgpack:"nodes"`
		Cores   int    `msgpack:"cores"`
	}
	// BranchOrder is one word of a parent. What is empty is not said.
	BranchOrder struct {
		Session  uint64        `msgpack:"session,omitempty"` // the first
		Path     string        `msgpack:"path,omitempty"`    // of the branch, with the first
		List     []BranchShare `msgpack:"list,omitempty"`    // all that is held, with the first
		Grant    *BranchGrant  `msgpack:"grant,omitempty"`
		Casts    []BranchCast  `msgpack:"casts,omitempty"`
		TakeBack int           `msgpack:"back,omitempty"` // elements of so many cores are wanted back
		Ask      *BranchAsk    `msgpack:"ask,omitempty"`
		Drop     uint64        `msgpack:"drop,omitempty"` // nobody waits for the answer to that question any more
		End      bool          `msgpack:"end,omitempty"`
		Hastes   []BranchHaste `msgpack:"hastes,omitempty"`
		Sets     []BranchSet   `msgpack:"sets,omitempty"` // of arrays that it holds something of
	}
	// BranchSet is what an array has by now that was otherwise at its submission.
	BranchSet struct {
		Array   jobspec.ID `msgpack:"array"`
		Urgency int        `msgpack:"urgency"`
		Limit   float64    `msgpack:"limit"`
	}
	// BranchShare is elements of an array, as an idset.
	BranchShare struct {
		Array    jobspec.ID `msgpack:"array"`
		Elements string     `msgpack:"elements"`
	}
	// BranchHaste is how soon the parent wants to hear of an array's elements (job.Haste).
	BranchHaste struct {
		Branch int        `msgpack:"-"`
		Array  jobspec.ID `msgpack:"array"`
		Haste  int        `msgpack:"haste"`
	}
	// BranchGrant is elements for a branch. Specs and Envs are those that were not sent in this session yet.
	BranchGrant struct {
		Branch int          `msgpack:"-"`
		Num    uint64       `msgpack:"num"`
		Specs  []BranchText `msgpack:"specs,omitempty"`
		Envs   []BranchText `msgpack:"envs,omitempty"`
		Items  []BranchItem `msgpack:"items"`
	}
	// BranchText is a jobspec or an environment under the parent's number.
	BranchText struct {
		ID   uint64 `msgpack:"id"`
		Data []byte `msgpack:"data"`
	}
	// BranchItem is elements of an array, with its submission.
	BranchItem struct {
		Array    jobspec.ID     `msgpack:"array"`
		N        int            `msgpack:"n"`
		Spec     uint64         `msgpack:"spec"`
		Env      uint64         `msgpack:"env,omitempty"`
		Elements string         `msgpack:"elements"`
		Tried    string         `msgpack:"tried,omitempty"` // of these, those that may have run elsewhere
		Again    []BranchAgain  `msgpack:"again,omitempty"`
		CC       string         `msgpack:"cc,omitempty"`
		BCC      bool           `msgpack:"bcc,omitempty"`
		Given    int            `msgpack:"given"` // urgency at submission
		Urgency  int            `msgpack:"urgency"`
		Flags    int            `msgpack:"flags,omitempty"`
		User     uint32         `msgpack:"user"`
		Submit   float64        `msgpack:"submit"`
		Indexes  string         `msgpack:"indexes,omitempty"`
		Size     int            `msgpack:"size,omitempty"`
		Log      []byte         `msgpack:"log,omitempty"`
		Vars     []string       `msgpack:"vars,omitempty"`
		Limit    float64        `msgpack:"limit,omitempty"`
		Watched  bool           `msgpack:"watched,omitempty"`
		Params   []BranchParams `msgpack:"params,omitempty"`
		Haste    int            `msgpack:"haste,omitempty"`  // job.Haste
		Follow   string         `msgpack:"follow,omitempty"` // key of an open job.follow in the branch that is told of it …
		Tag      int            `msgpack:"tag,omitempty"`    // … under this tag
	}
	// BranchAgain is an element that ran, and is to run again.
	BranchAgain struct {
		Index   int    `msgpack:"index"`
		Attempt uint32 `msgpack:"attempt"`
		Fails   int    `msgpack:"fails,omitempty"`
		Log     []byte `msgpack:"log,omitempty"`
	}
	// BranchParams is the parameters of elements First … First+N-1, as the store has them.
	BranchParams struct {
		First int    `msgpack:"first"`
		N     int    `msgpack:"n"`
		Data  []byte `msgpack:"data"`
	}
	// BranchCast is an exception for elements that a branch holds.
	BranchCast struct {
		Branch   int `msgpack:"-"`
		Share    BranchShare
		Type     string `msgpack:"type"`
		Severity int    `msgpack:"severity"`
		Note     string `msgpack:"note"`
		States   int    `msgpack:"states,omitempty"`
	}
	// BranchAsk is a question: a request of a client, in its form on the wire.
	BranchAsk struct {
		ID    uint64 `msgpack:"id"`
		Topic string `msgpack:"topic"`
		Body  []byte `msgpack:"body"`
	}
	// BranchReportReq is what a branch has to tell.
	BranchReportReq struct {
		Branch   int           `msgpack:"branch"`
		Session  uint64        `msgpack:"session"`
		First    bool          `msgpack:"first,omitempty"` // the answer to the list
		Began    []BranchShare `msgpack:"began,omitempty"`
		Ends     []BranchEnd   `msgpack:"ends,omitempty"`
		Backs    []BranchBack  `msgpack:"backs,omitempty"`
		Recalled bool          `msgpack:"recalled,omitempty"` // the answer to TakeBack; more may follow
		Waiting  int           `msgpack:"waiting,omitempty"`  // elements that it holds now and that have not started
	}
	// BranchEnd is elements that ended alike.
	BranchEnd struct {
		Share    BranchShare
		Result   int     `msgpack:"result"`
		Status   int     `msgpack:"status"` // wait status, -1 = none
		Ran      bool    `msgpack:"ran,omitempty"`
		Time     float64 `msgpack:"time"`
		Type     string  `msgpack:"type,omitempty"` // of the exception; empty = none
		Severity int     `msgpack:"severity,omitempty"`
		Note     string  `msgpack:"note,omitempty"`
	}
	// BranchBack is elements that are the parent's again. Lost: they may have run.
	BranchBack struct {
		Share BranchShare
		Again []BranchAgain `msgpack:"again,omitempty"`
		Lost  bool          `msgpack:"lost,omitempty"`
	}
	// BranchAnswerReq is an answer to BranchAsk.
	BranchAnswerReq struct {
		Branch  int    `msgpack:"branch"`
		Session uint64 `msgpack:"session"`
		ID      uint64 `msgpack:"id"`
		Body    []byte `msgpack:"body,omitempty"`
		More    bool   `msgpack:"more,omitempty"`
		Code    int    `msgpack:"code,omitempty"` // of the error, 0 = none
		Text    string `msgpack:"text,omitempty"`
	}
	// BranchPassReq is a question to a branch.
	BranchPassReq struct {
		Branch int    `msgpack:"branch"`
		Topic  string `msgpack:"topic"`
		Body   []byte `msgpack:"body"`
	}
	// BranchTopReq is a question to the parent.
	BranchTopReq struct {
		Topic string `msgpack:"topic"`
		Body  []byte `msgpack:"body"`
	}
	// BranchPassRep is one answer to it.
	BranchPassRep struct {
		Body []byte `msgpack:"body"`
	}
	// BranchHeldReq names a branch.
	BranchHeldReq struct {
		Branch int `msgpack:"branch"`
	}
	// BranchHeldRep is what it holds.
	BranchHeldRep struct {
		List  []BranchShare `msgpack:"list"`
		Casts []BranchCast  `msgpack:"casts"`
		Cores int           `msgpack:"cores"` // of all elements in List
		Last  uint64        `msgpack:"last"`  // number of the latest grant to whomever: those up to it are in List
		Haste []BranchHaste `msgpack:"haste,omitempty"`
		Sets  []BranchSet   `msgpack:"sets,omitempty"`
	}
	// BranchSplitReq says how many branches, and how many each of them has, and so on.
	BranchSplitReq struct {
		Widths []int   `msgpack:"widths"`
		Within float64 `msgpack:"within,omitempty"` // seconds that a branch may take to come up, once its nodes are free; 0 = the default
	}
	// BranchJobsRep has them, and the branches that hold something: of one without a job nothing runs any more.
	BranchJobsRep struct {
		Jobs    []BranchJob `msgpack:"jobs"`
		Holders []int       `msgpack:"holders,omitempty"`
	}
	// BranchJob is one.
	BranchJob struct {
		ID      jobspec.ID `msgpack:"id"`
		Name    string     `msgpack:"name"`
		Nodes   int        `msgpack:"nodes"`
		Waiting bool       `msgpack:"waiting,omitempty"` // it has none yet
	}
	// BranchUnfitRep has the number.
	BranchUnfitRep struct {
		Arrays int `msgpack:"arrays"`
	}
	// BranchStatusRep lists branches by number.
	BranchStatusRep struct {
		Widths   []int        `msgpack:"widths"` // as in 4x8; none = there are no branches
		Branches []BranchInfo `msgpack:"branches"`
	}
	// BranchInfo is one branch.
	BranchInfo struct {
		Branch int        `msgpack:"branch" json:"branch"`
		State  string     `msgpack:"state" json:"state"`
		Job    jobspec.ID `msgpack:"job,omitempty" json:"job,omitempty"` // that it runs as
		Nodes  string     `msgpack:"nodes,omitempty" json:"nnodes,omitempty"`
		Cores  int        `msgpack:"cores" json:"cores"`
		Held   int        `msgpack:"held" json:"work"`                     // cores of all that it holds
		Note   string     `msgpack:"note,omitempty" json:"note,omitempty"` // why it has failed
	}
)

// Notices between "job" and "branch" of one leader. Those to the parent's side of "job" are BranchTake, BranchFits and BranchForfeit;
// those to a branch's own side are the orders.
type (
	// BranchOffers: elements may go to branches.
	BranchOffers struct{ Offers []BranchOffer }
	// BranchOffer is Delta more (or fewer) elements of an array. Cores 0: as was said.
	BranchOffer struct {
		Array               jobspec.ID
		Delta, Cores, Nodes int
		Priority            uint32
	}
	// BranchTake grants elements.
	BranchTake struct {
		Branch int
		Items  []BranchTakeItem
	}
	// BranchTakeItem is up to N elements of an array.
	BranchTakeItem struct {
		Array jobspec.ID
		N     int
	}
	// BranchLoad: a branch holds elements of so many cores more (or fewer; Ended: because they have ended).
	BranchLoad struct {
		Branch, Cores int
		Ended         bool
	}
	// BranchCasts are exceptions to be passed on.
	BranchCasts struct{ Casts []BranchCast }
	// BranchHastes are for branches that have elements of the arrays.
	BranchHastes struct{ List []BranchHaste }
	// BranchFits says what branches there are: an element goes to one if it fits. None: there are no branches.
	BranchFits struct{ Sizes []BranchSize }
	// BranchMade: there are branches. What waits in the queue and fits none of them may have waited before.
	BranchMade struct{}
	// BranchSize is what a branch has.
	BranchSize struct{ Nodes, CoresOfNode, GPUsOfNode int }
	// BranchRisen: the leader of a branch is there.
	BranchRisen struct{ Job jobspec.ID }
	// BranchWaits: a job waits that fits no branch.
	BranchWaits struct{}
	// BranchForfeit: nothing of a branch runs any more.
	BranchForfeit struct {
		Branch int
		Reason string
	}
	// BranchTell: in a branch, what its parent has not been told yet is to be told now.
	BranchTell struct{}
	// BranchRelist: a branch holds less than it was told, and is to be told anew.
	BranchRelist struct{ Branch int }
	// BranchUp is something to report to the parent.
	BranchUp struct{ Report BranchReportReq }
)
