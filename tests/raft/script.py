"""Scripts: commands to a cluster in memory, and what came of each, as text.

A script is a file of blocks, each a command, a line `----`, and its output up to an empty line.
`#` begins a comment. Nothing happens that no command asks for: no time passes, no message arrives.
A server does its work (writes its batch, sends, applies) after every command that concerns it.

    cluster 3 learners=1 pre_vote=false     servers n1, n2, ..., with settings of RaftConfig
    elect n1                                let n1 stand when nobody hears a leader; settle
    campaign n1 | tick n1 5 | step_down n1
    propose n1 3 | commit n1 3              a run of 3 commands; `commit` settles
    begin n1 | finish n1                    take a Ready, sending what may go now; do the rest of it
    deliver n1 n2 append | ... all          the oldest message of a kind from n1 to n2; every one
    snapshot n1 n3                          n1's newest snapshot is on its way, asked for or not
    drop n1 n2 append | copy n1 n2 append   lose the oldest; put a copy of it behind all others
    lose append n2 | lose nothing           all of a kind to n2 are lost from now on; none any more
    hold n3 | release n3                    n3 takes messages, and works only at begin and finish
    settle                                  deliver and work until nothing is left
    cut n1 n2 | partition n1,n2 n3 | heal   nothing is sent between them
    crash n1 | restart n1 | wipe n1 | compact n1 | join n4
    change n1 learner n4                    also: voter n4, remove n4, replace n4
    transfer n1 n2 | read n1 | clock n1 350
    link down n2 n1 | link up n2 n1 same    n2 sees its link to n1; `new` is another incarnation
    stand n2                                the time of an early pre-vote has come
    show n1 | show | flying | log n1
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from resplock.raft import configurations
from resplock.raft.configurations import ids
from resplock.raft.entries import Configuration, Entry, EntryKind, Member
from resplock.raft.messages import (
    AppendReply,
    AppendRequest,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVoteReply,
    PreVoteRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from resplock.types import NodeId, StampMs
from tests.raft.cluster import Cluster, Server, Snapshot

KINDS: dict[str, type[Message | Snapshot]] = {
    "append": AppendRequest,
    "append-reply": AppendReply,
    "heartbeat": Heartbeat,
    "heartbeat-reply": HeartbeatReply,
    "pre-vote": PreVoteRequest,
    "pre-vote-reply": PreVoteReply,
    "snapshot": Snapshot,
    "timeout-now": TimeoutNow,
    "vote": VoteRequest,
    "vote-reply": VoteReply,
}
NAMES = {kind: name for name, kind in KINDS.items()}


def rewrite(script: str) -> str:
    """The script with the output that its commands have now."""
    runner = _Runner()
    return "\n".join(_blocks(script, runner))


def _blocks(script: str, runner: _Runner) -> Iterator[str]:
    skipping = False
    for line in script.splitlines():
        if skipping:
            skipping = bool(line.strip())
            continue
        if not line.strip() or line.startswith("#"):
            yield line
            continue
        yield line
        yield "----"
        yield from runner.run(line)
        yield ""
        skipping = True


class _Runner:
    """Runs the commands of one script."""

    def __init__(self) -> None:
        self.cluster = Cluster(1)
        self.seen = 0
        self.held: set[str] = set()
        self.bases: dict[NodeId, int] = {}
        self.applied: dict[NodeId, list[Entry]] = {}
        self.states: dict[NodeId, str] = {}

    def run(self, line: str) -> list[str]:
        """Do what the line says; what came of it, a line each."""
        name, *words = line.split()
        command: Callable[..., str | list[str] | None] | None = getattr(self, f"do_{name}", None)
        if command is None:
            raise ValueError(f"no such command: {line}")
        said = command(*words)
        if name not in ("begin", "deliver", "drop", "copy", "show", "flying", "log"):
            self._work()
        lines = [said] if isinstance(said, str) else said or []
        return [*lines, *self._news()] or ["nothing"]

    # --- servers and time ------------------------------------------------------------------------

    def do_cluster(self, voters: str, *settings: str) -> None:
        pairs = dict(setting.split("=") for setting in settings)
        learners = int(pairs.pop("learners", 0))
        values = {name: {"true": True, "false": False}.get(v, v) for name, v in pairs.items()}
        numbers = {n: int(v) if isinstance(v, str) else v for n, v in values.items()}
        self.cluster = Cluster(int(voters), 1, learners, **numbers)
        self.seen, self.applied, self.states, self.bases = 0, {}, {}, {}

    def do_elect(self, id: str) -> None:
        self.cluster.elect(id)

    def do_campaign(self, id: str) -> None:
        self.cluster.core(id).campaign()

    def do_step_down(self, id: str) -> None:
        self.cluster.core(id).step_down()

    def do_tick(self, id: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.cluster.core(id).tick()
            self.cluster.sync(id)
            self.cluster.work(id)

    def do_clock(self, id: str, clock_ms: str) -> None:
        self.cluster.core(id).clock_ms = StampMs(int(clock_ms))

    def do_crash(self, id: str) -> None:
        self.cluster.crash(id)

    def do_restart(self, id: str) -> None:
        self.cluster.restart(id)
        self._begins_with(self.cluster.servers[NodeId(id)])

    def do_wipe(self, id: str) -> None:
        self.cluster.wipe(id)
        self._begins_with(self.cluster.servers[NodeId(id)])

    def do_join(self, id: str) -> None:
        self.cluster.add_server(id)

    def do_compact(self, id: str) -> None:
        self.cluster.compact(id)
        self._begins_with(self.cluster.servers[NodeId(id)])

    def _begins_with(self, server: Server) -> None:
        """Its state as of its snapshot is no news."""
        self.applied[server.id] = list(server.applied)
        self.bases[server.id] = server.disk.snapshot.index

    # --- what is asked of a server ---------------------------------------------------------------

    def do_propose(self, id: str, commands: str = "1") -> str:
        entry = self.cluster.propose(id, int(commands))
        return f"{id} appends {_entry(entry)}" if entry else f"{id} takes no proposals"

    def do_commit(self, id: str, commands: str = "1") -> str:
        entry = self.cluster.commit(id, int(commands))
        return f"{id} appends {_entry(entry)}"

    def do_change(self, id: str, change: str, target: str) -> str:
        core = self.cluster.core(id)
        try:
            changed = self._changed(core.configuration, change, NodeId(target))
        except KeyError:
            return f"{target} is not there"
        result = core.propose_configuration(changed)
        return f"{id} appends {_entry(result)}" if isinstance(result, Entry) else result.value

    def _changed(self, old: Configuration, change: str, id: NodeId) -> Configuration:
        match change:
            case "learner":
                member = Member(id, self.cluster.servers[id].uuid)
                return configurations.with_learner(old, member)
            case "voter":
                return configurations.with_voter(old, id)
            case "remove":
                return configurations.without(old, id)
            case "replace":
                member = Member(id, self.cluster.servers[id].uuid)
                return configurations.with_replacement(old, member)
        raise ValueError(f"no such change: {change}")

    def do_transfer(self, id: str, target: str = "") -> str | None:
        refusal = self.cluster.core(id).transfer(NodeId(target) if target else None)
        return refusal.value if refusal else None

    def do_read(self, id: str) -> str:
        context = self.cluster.read(id)
        return f"read {context}" if context else f"{id} takes no reads"

    def do_link(self, state: str, id: str, peer: str, incarnation: str = "") -> None:
        core = self.cluster.core(id)
        if state == "down":
            core.report_link_down(NodeId(peer))
        else:
            core.report_link_up(NodeId(peer), {"same": True, "new": False}[incarnation])

    def do_stand(self, id: str) -> None:
        self.cluster.core(id).stand_now()

    # --- the network -----------------------------------------------------------------------------

    def do_begin(self, id: str) -> None:
        self.cluster.begin(id)

    def do_finish(self, id: str) -> None:
        self.cluster.finish(id)

    def do_deliver(self, from_id: str, to_id: str, kind: str) -> None:
        """And let the addressee work, unless it is held."""
        positions = self._positions(from_id, to_id, kind)
        for _ in positions if kind == "all" else positions[:1]:
            self.cluster.deliver(self._positions(from_id, to_id, kind)[0])
            self._work()

    def do_drop(self, from_id: str, to_id: str, kind: str) -> None:
        positions = self._positions(from_id, to_id, kind)
        for position in reversed(positions if kind == "all" else positions[:1]):
            del self.cluster.flying[position]

    def do_copy(self, from_id: str, to_id: str, kind: str) -> None:
        position = self._positions(from_id, to_id, kind)[0]
        self.cluster.flying.append(self.cluster.flying[position])

    def _positions(self, from_id: str, to_id: str, kind: str) -> list[int]:
        """Where among the messages under way those are that a command speaks of: at least one."""
        kinds = tuple(KINDS.values()) if kind == "all" else (KINDS[kind],)
        found = [
            position
            for position, message in enumerate(self.cluster.flying)
            if (message.from_id, message.to_id) == (from_id, to_id) and isinstance(message, kinds)
        ]
        if not found:
            raise ValueError(f"no {kind} is under way from {from_id} to {to_id}")
        return found

    def do_lose(self, kind: str, to_id: str = "") -> None:
        lost, earlier = KINDS.get(kind), self.cluster.loses
        if kind == "nothing":
            self.cluster.loses = lambda _: False
        elif lost is None:
            raise ValueError(f"no such kind of message: {kind}")
        else:
            self.cluster.loses = lambda message: (
                (isinstance(message, lost) and message.to_id == to_id) or earlier(message)
            )

    def do_snapshot(self, id: str, to_id: str) -> None:
        self.cluster.send_snapshot(id, NodeId(to_id))

    def do_hold(self, id: str) -> None:
        self.held.add(id)

    def do_release(self, id: str) -> None:
        self.held.remove(id)

    def do_settle(self) -> None:
        assert not self.held, "settling would let them work"
        self.cluster.settle()

    def do_cut(self, a: str, b: str) -> None:
        self.cluster.cut |= {(NodeId(a), NodeId(b)), (NodeId(b), NodeId(a))}

    def do_partition(self, *groups: str) -> None:
        self.cluster.partition(*(group.split(",") for group in groups))

    def do_heal(self) -> None:
        self.cluster.heal()

    # --- looking ---------------------------------------------------------------------------------

    def do_show(self, *shown: str) -> list[str]:
        servers = self.cluster.servers
        return [self._server(servers[NodeId(id)]) for id in shown or servers]

    def _server(self, server: Server) -> str:
        core = server.core
        if core is None:
            return f"{server.id} down"
        words = [
            f"{server.id} {core.role.value} t{core.term} vote {core.vote or '-'}",
            f"leader {core.leader_id or '-'} last {core.last_index}/t{core.last_term}",
            f"durable {core.log.stable_index}",
            f"commit {core.commit_index} applied {core.applied_index}",
            f"config {_configuration(core.configuration)}",
        ]
        words += [
            f"| {peer.id} {peer.state.value} match {peer.match_index} next {peer.next_index}"
            for peer in core.progress.values()
        ]
        return " ".join(words)

    def do_flying(self) -> list[str]:
        return [_message(message) for message in self.cluster.flying]

    def do_log(self, id: str) -> str:
        entries = map(_entry, self.cluster.log_of(id))
        return " ".join([f"{id} behind {self.cluster.core(id).log.base.index}:", *entries])

    # --- what came of it -------------------------------------------------------------------------

    def _work(self) -> None:
        """All servers do what they have to do, but for those that are held."""
        for server in self.cluster.servers.values():
            if server.core is not None and server.id not in self.held:
                self.cluster.work(server.id)

    def _news(self) -> list[str]:
        """Who has changed, what was sent, and what was applied and answered."""
        cluster, lines = self.cluster, []
        for message in cluster.sent[self.seen :]:
            is_cut = (message.from_id, message.to_id) in cluster.cut
            is_lost = is_cut or cluster.loses(message)
            lines.append(_message(message) + (" lost" if is_lost else ""))
        self.seen = len(cluster.sent)
        for server in cluster.servers.values():
            lines += self._news_of(server)
        return lines

    def _news_of(self, server: Server) -> list[str]:
        id, core, lines = server.id, server.core, []
        state = "down" if core is None else f"{core.role.value} t{core.term}"
        if core is not None and core.is_transferring:
            state += f", hands over to {core.transferee}"
        if core is not None and core.is_removed:
            state += ", removed"
        if self.states.get(id, state) != state:
            lines.append(f"{id} is {state}")
        self.states[id] = state
        base = server.disk.snapshot
        if base.index != self.bases.get(id, 0):
            lines.append(f"{id} has the snapshot at {base.index}/t{base.term}")
            self.bases[id], self.applied[id] = base.index, list(server.saved)
        if new := server.applied[len(self.applied.get(id, [])) :]:
            lines.append(" ".join([f"{id} applies", *map(_entry, new)]))
        self.applied[id] = list(server.applied)
        lines += [f"{id} answers read {c} at {index}" for c, index in server.answered.items()]
        lines += [f"{id} loses read {context}" for context in server.lost]
        server.answered.clear()
        server.lost.clear()
        if core is not None and (stand_in_ms := core.take_stand_in_ms()) is not None:
            lines.append(f"{id} stands in {stand_in_ms} ms")
        return lines


# --- how things are shown ------------------------------------------------------------------------


def _entry(entry: Entry) -> str:
    """As 4..6/t2 for a run, and 7/t2:noop for what is none."""
    span = f"{entry.first}..{entry.last}" if entry.last > entry.first else f"{entry.first}"
    kind = "" if entry.kind is EntryKind.RUN else f":{entry.kind.name.lower()}"
    return f"{span}/t{entry.term}{kind}"


def _configuration(configuration: Configuration) -> str:
    text = ",".join(ids(configuration.voters)) or "-"
    if configuration.learners:
        text += "+" + ",".join(ids(configuration.learners))
    return text


def _message(message: Message | Snapshot) -> str:
    name = NAMES[type(message)]
    way = f"{message.from_id} > {message.to_id} {name}"
    if isinstance(message, Snapshot):
        return f"{way} at {message.meta.index}/t{message.meta.term}"
    return f"{way} t{message.term}{_content(message)}"


def _content(message: Message) -> str:
    match message:
        case AppendRequest():
            entries = " ".join(map(_entry, message.entries))
            return (
                f" prev {message.prev_index}/t{message.prev_term} commit {message.commit_index}"
                f" [{entries}]"
            )
        case AppendReply(accepted=True):
            return f" match {message.match_index}"
        case AppendReply():
            conflict = f"{message.conflict_index}/t{message.conflict_term}"
            return f" rejects {message.prev_index}, conflict {conflict}"
        case Heartbeat():
            return (
                f" commit {message.commit_index}/t{message.commit_term} clock {message.clock_ms}"
                f" round {message.round}"
            )
        case HeartbeatReply():
            return f" match {message.match_index} round {message.round}"
        case PreVoteRequest():
            return f" last {message.last_index}/t{message.last_term}"
        case VoteRequest():
            by_transfer = " by transfer" if message.transfer else ""
            return f" last {message.last_index}/t{message.last_term}{by_transfer}"
        case PreVoteReply(removed=True):
            return f" for t{message.asked_term}: removed"
        case PreVoteReply():
            return f" for t{message.asked_term}: {'yes' if message.granted else 'no'}"
        case VoteReply():
            return f" {'yes' if message.granted else 'no'}"
        case TimeoutNow():
            return ""
