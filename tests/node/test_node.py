"""One node as the runtime drives it: runs, the clock, reads, leadership, bounds, snapshots, restarts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resplock import limits
from resplock.operations import (
    Acquire,
    Busy,
    CheckVersion,
    GetLock,
    Granted,
    Held,
    InDoubt,
    KeepAlive,
    ListLocks,
    LockInfo,
    NoLeader,
    NotHeld,
    Released,
    Renew,
    SetUnixOffset,
    decode_run,
)
from resplock.raft.entries import EntryKind
from resplock.state.table import LockTable
from resplock.types import Index
from tests.node.servers import (
    TICK_MS,
    UNIX_MS,
    Caller,
    Server,
    Trio,
    acquire,
    image,
    lose_leadership,
    name,
    release,
)

budget = settings(max_examples=max(100, settings().max_examples))


@pytest.fixture
def server() -> Server:
    return Server().lead()


# --- runs ----------------------------------------------------------------------------------------


def test_what_arrives_in_one_turn_is_one_entry(server: Server) -> None:
    one, two = Caller(), Caller()
    server.node.submit(one, [acquire("a"), acquire("b")])
    server.node.submit(two, [acquire("a", "you"), release("a", "you")])
    server.node.submit(one, [release("b")])
    entries = len(server.entries)
    server.settle()
    assert len(server.entries) == entries + 1
    entry = server.entries[-1]
    assert entry.last - entry.first + 1 == 5
    assert decode_run(entry.payload)[0] == acquire("a")
    first = entry.first
    assert one.take() == [Granted(first, 30_000), Granted(first + 1, 30_000), Released()]
    held, not_owner = two.take()
    assert isinstance(held, Held)
    assert held.version == first
    assert type(not_owner).__name__ == "NotOwner"


def test_a_version_is_the_index_of_its_command(server: Server) -> None:
    results = server.do(*(acquire(f"k{number}") for number in range(10)))
    first = server.entries[-1].first
    assert [result.version for result in results] == list(range(first, first + 10))


def test_an_entry_has_at_most_so_many_commands(server: Server) -> None:
    callers = [Caller() for _ in range(20)]
    for number, caller in enumerate(callers):
        server.node.submit(caller, [acquire(f"{number}-{each}") for each in range(1_000)])
    before = len(server.entries)
    server.settle()
    sizes = [entry.last - entry.first + 1 for entry in server.entries[before:]]
    assert sum(sizes) == 20_000
    assert len(sizes) > 1
    assert max(sizes) <= limits.RUN_COMMANDS_MAX
    for caller in callers:
        results = caller.take()
        assert len(results) == 1_000
        versions = [result.version for result in results]
        assert versions == list(range(versions[0], versions[0] + 1_000))


def test_an_entry_has_about_so_many_bytes(server: Server) -> None:
    owner = "o" * limits.OWNER_BYTES_MAX
    callers = [Caller() for _ in range(40)]
    for number, caller in enumerate(callers):
        server.node.submit(caller, [acquire(f"{number}-{each}", owner) for each in range(100)])
    before = len(server.entries)
    server.settle()
    entries = server.entries[before:]
    assert len(entries) > 1
    assert max(len(entry.payload) for entry in entries) <= limits.RUN_BYTES_MAX
    for caller in callers:
        assert [type(result) for result in caller.take()] == [Granted] * 100


def test_one_client_is_never_split(server: Server) -> None:
    """Its pipeline is bounded where it comes from; what it submits is answered in one piece."""
    caller = Caller()
    owner = "o" * limits.OWNER_BYTES_MAX
    server.node.submit(caller, [acquire(f"{each}", owner) for each in range(1_024)])
    before = len(server.entries)
    server.settle()
    assert len(server.entries) == before + 1
    assert len(caller.take()) == 1_024


# --- the clock -----------------------------------------------------------------------------------


def check_stamps(server: Server) -> None:
    stamps = [entry.stamp_ms for entry in server.entries]
    assert stamps == sorted(stamps), "a stamp went back"


def test_an_idle_node_writes_nothing(server: Server) -> None:
    server.pass_time(1_000)
    before = len(server.entries)
    server.pass_time(120_000, tick_ms=50)
    assert len(server.entries) == before


def test_nor_does_one_whose_holds_never_end(server: Server) -> None:
    server.do(acquire("a", ttl_ms=0))
    before = len(server.entries)
    server.pass_time(120_000, tick_ms=50)
    assert len(server.entries) == before


def test_the_clock_is_logged_while_something_ends_with_time(server: Server) -> None:
    server.do(acquire("a", ttl_ms=32_000))
    before = len(server.entries)
    server.pass_time(31_900)
    stamps = [entry.stamp_ms for entry in server.entries[before - 1 :]]
    assert set(server.kinds()[before:]) == {EntryKind.CLOCK}
    gaps = [later - earlier for earlier, later in pairwise(stamps)]
    assert len(gaps) == 6
    assert max(gaps) <= limits.STAMP_LOGGED_EVERY_MS + TICK_MS
    assert min(gaps) >= limits.STAMP_LOGGED_EVERY_MS
    assert len(server.node.table.locks) == 1

    server.pass_time(200)
    assert len(server.node.table.locks) == 0
    assert server.node.table.totals.expired == 1
    before = len(server.entries)
    server.pass_time(60_000, tick_ms=50)
    assert len(server.entries) == before, "nothing ends any more"


def test_traffic_carries_the_clock(server: Server) -> None:
    server.do(acquire("a", ttl_ms=20_000))
    before = len(server.entries)
    for _ in range(15):
        server.pass_time(1_000)
        server.do(Renew(name("other"), b"me"))
    assert set(server.kinds()[before:]) == {EntryKind.RUN}


def test_a_hold_ends_in_time_and_never_early(server: Server) -> None:
    [granted] = server.do(acquire("a", ttl_ms=500))
    assert isinstance(granted, Granted)
    since_ms = server.now_ms
    while len(server.node.table.locks):
        server.pass_time(TICK_MS)
        assert server.now_ms - since_ms < 1_000
    assert 500 <= server.now_ms - since_ms <= 500 + TICK_MS
    assert server.entries[-1].kind is EntryKind.CLOCK
    check_stamps(server)


def test_one_entry_ends_a_bounded_number_and_the_next_go_on(server: Server) -> None:
    count = limits.ENDS_PER_ENTRY + 500
    for begin in range(0, count, 1_000):
        server.do(*(acquire(f"{each}", ttl_ms=60_000) for each in range(begin, begin + 1_000)))
    left = server.node.table.locks_by_db[0]
    server.pass_time(61_000, tick_ms=1_000)
    assert left >= count
    assert server.node.table.locks_by_db[0] == 0
    assert server.node.table.totals.expired == left


def test_a_stalled_loop_makes_no_lock_end_early_and_one_tick_of_it(server: Server) -> None:
    server.do(acquire("a", ttl_ms=60_000))
    server.now_ms += 50_000
    server.unix_ms += 50_000
    server.node.tick(server.now_ms)
    server.turn()
    assert server.node.core.is_leader
    assert len(server.node.table.locks) == 1
    server.pass_time(10_000)
    assert len(server.node.table.locks) == 0
    check_stamps(server)


def test_time_without_the_node_belongs_to_the_holders(server: Server) -> None:
    server.do(acquire("a", ttl_ms=10_000))
    server.pass_time(2_000)
    server.do(Renew(name("other"), b"me"))  # the clock is logged
    stamp_ms = server.node.table.clock_ms
    server.now_ms, server.unix_ms = 7, UNIX_MS - 12_345_678  # a new boot; the wall clock jumped
    server.start()
    server.lead()
    assert server.node.table.clock_ms >= stamp_ms
    info = server.look(GetLock(name("a")))
    assert isinstance(info, LockInfo)
    assert info.ttl_ms == 8_000
    server.pass_time(7_900)
    assert len(server.node.table.locks) == 1
    server.pass_time(200)
    assert len(server.node.table.locks) == 0
    check_stamps(server)


# --- unix time -----------------------------------------------------------------------------------


def offsets(server: Server) -> list[SetUnixOffset]:
    return [each for each in server.commands() if isinstance(each, SetUnixOffset)]


def test_the_offset_to_unix_time_is_logged_once(server: Server) -> None:
    server.pass_time(10_000)
    assert len(offsets(server)) == 1
    server.do(acquire("a", ttl_ms=10_000))
    info = server.look(GetLock(name("a")))
    assert isinstance(info, LockInfo)
    assert abs(info.acquired_at - server.unix_ms) <= 1
    assert abs(info.expires_at - server.unix_ms - 10_000) <= 1


@pytest.mark.parametrize("jump_ms", [5_000, -5_000, 86_400_000, 1_001, -1_001])
def test_it_is_renewed_once_when_it_is_off(server: Server, jump_ms: int) -> None:
    server.do(acquire("a", ttl_ms=60_000))
    server.unix_ms += jump_ms
    server.pass_time(3_000)
    assert len(offsets(server)) == 2
    info = server.look(GetLock(name("a")))
    assert isinstance(info, LockInfo)
    assert info.ttl_ms == 57_000, "a jump of the wall clock moves no end"
    assert abs(info.expires_at - server.unix_ms - 57_000) <= 1


@pytest.mark.parametrize("jump_ms", [900, -900])
def test_a_little_off_is_left_alone(server: Server, jump_ms: int) -> None:
    server.unix_ms += jump_ms
    server.pass_time(3_000)
    assert len(offsets(server)) == 1


def test_a_wall_clock_that_goes_to_and_fro(server: Server) -> None:
    server.pass_time(1_000)
    for jump_ms in (5_000, -5_000, 5_000):
        server.unix_ms += jump_ms
        server.pass_time(1_000)
    assert len(offsets(server)) == 4


def test_a_wall_clock_that_jumps_twice_in_a_moment(server: Server) -> None:
    server.pass_time(1_000)
    server.unix_ms += 5_000
    server.turn()
    server.unix_ms += 5_000
    server.pass_time(60_000)
    assert server.node.table.unix_offset_ms == server.unix_ms - server.now_ms + 50_000


def test_an_offset_that_was_refused_is_proposed_again() -> None:
    trio = Trio(uncommitted_bytes_max=1)
    leader = trio.elect("n1")
    trio.pass_time(100)
    leader.node.submit(Caller(), [acquire("a")])
    leader.turn()  # one more would be too much now
    leader.unix_ms += 5_000
    leader.turn()
    trio.pass_time(60_000)
    stamp_ms = leader.node.clock_ms
    assert abs(leader.node.table.unix_offset_ms - (leader.unix_ms - stamp_ms)) <= 1_000


# --- reads ---------------------------------------------------------------------------------------


def test_reads_show_what_was_decided_before(server: Server) -> None:
    assert server.look(GetLock(name("a"))) is None
    [granted] = server.do(acquire("a"))
    assert isinstance(granted, Granted)
    assert server.look(CheckVersion(name("a"), granted.version)) == 1
    assert server.look(CheckVersion(name("a"), granted.version + 1)) == 0
    before = len(server.entries)
    for _ in range(50):
        server.look(GetLock(name("a")))
    assert len(server.entries) == before, "a read writes nothing"


def test_the_ttl_counts_down_between_entries(server: Server) -> None:
    server.do(acquire("a", ttl_ms=4_000))
    server.now_ms += 1_234
    info = server.look(GetLock(name("a")))
    assert isinstance(info, LockInfo)
    assert info.ttl_ms == 2_766


def test_a_refused_query_is_an_answer(server: Server) -> None:
    result = server.look(ListLocks(0, cursor=b"nonsense"))
    assert type(result).__name__ == "CommandError"


def test_an_overdue_hold_is_shown_as_ended_only_once_the_log_has_ended_it(server: Server) -> None:
    [granted] = server.do(acquire("a", ttl_ms=100), acquire("b", ttl_ms=60_000))[:1]
    assert isinstance(granted, Granted)
    deadline_ms = server.node.table.clock_ms + 100
    server.now_ms += 150  # and no tick, no turn: nobody has noticed yet
    one, two = Caller(), Caller()
    server.node.ask(one, GetLock(name("a")))
    server.node.ask(one, CheckVersion(name("a"), granted.version))
    server.node.ask(one, GetLock(name("b")))
    server.node.ask(two, GetLock(name("b")))

    node = server.node
    node.gather(server.now_ms, server.unix_ms)
    answered_at: list[int] = []
    while node.has_ready() or node.busy:
        if not node.has_ready():
            node.gather(server.now_ms, server.unix_ms)
        ready = node.ready()
        server.log.persist(ready)
        node.advance(ready)
        for caller, results in node.take_answers():
            if caller is not None:
                caller.deliver(results)
            if caller is one and not answered_at:
                answered_at.append(server.node.table.clock_ms)
    assert [type(result) for result in one.take()] == [type(None), int, LockInfo]
    assert [type(result) for result in two.take()] == [LockInfo]
    assert answered_at[0] >= deadline_ms
    assert any(
        entry.stamp_ms >= deadline_ms
        for entry in server.entries
        if entry.last <= server.node.core.applied_index
    )


def test_other_clients_do_not_wait_for_an_overdue_hold(server: Server) -> None:
    server.do(acquire("a", ttl_ms=100), acquire("b"))
    server.now_ms += 150
    one, two = Caller(), Caller()
    server.node.ask(one, GetLock(name("a")))
    server.node.ask(two, GetLock(name("b")))
    server.node.gather(server.now_ms, server.unix_ms)
    ready = server.node.ready()
    server.log.persist(ready)
    server.node.advance(ready)
    answers = server.node.take_answers()
    assert [caller for caller, _ in answers if caller is not None] == [two]
    server.settle()
    assert one.take() == [None]


def test_what_a_read_saw_end_has_ended_for_operations_too(server: Server) -> None:
    server.do(acquire("a", ttl_ms=100))
    server.now_ms += 150
    assert server.look(GetLock(name("a"))) is None
    assert server.do(release("a")) == [NotHeld(name("a"))]
    [granted] = server.do(acquire("a", "you"))
    assert isinstance(granted, Granted)


# --- three nodes ---------------------------------------------------------------------------------


@pytest.fixture
def trio() -> Trio:
    return Trio()


def test_a_quorum_decides(trio: Trio) -> None:
    leader = trio.elect("n1")
    caller = Caller()
    leader.node.submit(caller, [acquire("a"), acquire("b")])
    leader.turn()
    assert caller.take() == [], "the leader alone is no quorum"
    trio.settle()
    assert [type(result) for result in caller.take()] == [Granted, Granted]
    trio.pass_time(100)
    assert image(trio["n2"].node.table) == image(leader.node.table) == image(trio["n3"].node.table)


def test_a_read_waits_for_a_quorum(trio: Trio) -> None:
    leader = trio.elect("n1")
    caller = Caller()
    leader.node.ask(caller, GetLock(name("a")))
    leader.turn()
    assert caller.take() == []
    trio.settle()
    assert caller.take() == [None]


def test_what_was_proposed_is_in_doubt_when_the_leadership_is_lost(trio: Trio) -> None:
    leader = trio.elect("n1")
    trio.alone = {"n1"}
    one, two = Caller(), Caller()
    leader.node.submit(one, [acquire("a"), acquire("b")])
    leader.turn()
    leader.node.submit(two, [acquire(key) for key in "cdef"])
    leader.turn()
    trio.pass_time(1_500)
    assert not leader.node.core.is_leader
    assert one.take() == [], "the next leader may still commit it"
    trio.pass_time(2 * leader.settings.election_timeout_ms)
    assert one.take() == [InDoubt(), InDoubt()]
    assert two.take() == [InDoubt()] * 4


def test_what_was_not_proposed_waits_then_certainly_was_not(trio: Trio) -> None:
    server = trio["n1"]
    trio.alone = {"n1"}
    trio.pass_time(100)
    caller = Caller()
    server.node.submit(caller, [acquire("a"), acquire("b")])
    server.node.ask(caller, GetLock(name("a")))
    server.turn()
    assert caller.take() == []
    trio.pass_time(2 * server.settings.election_timeout_ms)
    assert caller.take() == [NoLeader(), NoLeader(), NoLeader()]
    trio.alone = set()
    trio.elect("n2")
    trio.pass_time(1_000)
    assert acquire("a") not in trio["n2"].commands()


def test_what_was_not_proposed_is_proposed_by_a_leader_in_time(trio: Trio) -> None:
    server = trio["n1"]
    caller = Caller()
    server.node.submit(caller, [acquire("a")])
    server.node.ask(caller, CheckVersion(name("a"), 1))
    trio.elect("n1")
    trio.pass_time(100)
    assert sorted(type(result).__name__ for result in caller.take()) == ["Granted", "int"]


def test_a_leader_that_comes_back_starts_at_the_logs_clock(trio: Trio) -> None:
    leader = trio.elect("n1")
    caller = Caller()
    leader.node.submit(caller, [acquire("a", ttl_ms=3_000)])
    trio.settle()
    trio.alone = {"n1"}
    trio.pass_time(2_000)
    assert trio["n2"].node.core.is_leader or trio["n3"].node.core.is_leader
    trio.alone = set()
    trio.pass_time(500)
    for server in trio.servers.values():
        check_stamps(server)
    trio.pass_time(4_000)
    for server in trio.servers.values():
        assert len(server.node.table.locks) == 0
        check_stamps(server)


def test_time_without_a_leader_belongs_to_the_holders(trio: Trio) -> None:
    leader = trio.elect("n1")
    leader.node.submit(Caller(), [acquire("a", ttl_ms=3_000)])
    trio.settle()
    lose_leadership(trio, leader)
    trio.alone = {"n1", "n2", "n3"}
    trio.pass_time(5_000)
    trio.alone = set()
    for server in trio.servers.values():
        server.outbox.clear()
    trio.elect("n1")
    trio.pass_time(1_000)
    info = leader.node.peek(GetLock(name("a")))
    assert isinstance(info, LockInfo)
    assert 1_900 <= info.ttl_ms <= 2_000
    check_stamps(leader)


def test_reads_of_a_lost_leadership_are_answered_later(trio: Trio) -> None:
    leader = trio.elect("n1")
    leader.node.submit(Caller(), [acquire("a")])
    trio.settle()
    caller = Caller()
    trio.alone = {"n1"}
    leader.node.ask(caller, CheckVersion(name("a"), 1))
    leader.turn()
    leader.node.ask(caller, GetLock(name("a")))
    leader.turn()
    lose_leadership(trio, leader)
    assert caller.take() == []
    trio.elect("n1")
    trio.settle()
    assert [type(result) for result in caller.take()] == [int, LockInfo]


def test_reads_of_a_lost_leadership_keep_their_order(trio: Trio) -> None:
    leader = trio.elect("n1")
    leader.node.submit(Caller(), [acquire("a")])
    trio.settle()
    caller = Caller()
    trio.alone = {"n1"}
    leader.node.ask(caller, CheckVersion(name("a"), 1))
    leader.turn()
    lose_leadership(trio, leader)
    leader.node.ask(caller, GetLock(name("a")))
    trio.elect("n1")
    trio.settle()
    assert [type(result) for result in caller.take()] == [int, LockInfo]


def test_reads_of_an_overdue_hold_keep_their_order(trio: Trio) -> None:
    leader = trio.elect("n1")
    leader.node.submit(Caller(), [acquire("a", ttl_ms=100), acquire("b")])
    trio.settle()
    leader.now_ms += 200
    caller = Caller()
    leader.node.ask(caller, CheckVersion(name("a"), 1))
    trio.loses_entries = True  # but no heartbeats: the read's round succeeds
    trio.pass_time(100)
    assert caller.take() == []
    trio.loses_entries = False
    lose_leadership(trio, leader)
    leader.node.ask(caller, GetLock(name("b")))
    trio.elect("n1")
    trio.settle()
    trio.pass_time(100)
    assert [type(result) for result in caller.take()] == [int, LockInfo]


def test_a_read_of_an_overdue_hold_is_answered_though_its_settle_was_refused() -> None:
    trio = Trio(uncommitted_bytes_max=1)
    leader = trio.elect("n1")
    trio.pass_time(50)
    leader.node.submit(Caller(), [acquire("a", ttl_ms=100)])
    trio.pass_time(50)
    leader.now_ms += 200
    leader.unix_ms += 200
    caller = Caller()
    leader.node.ask(caller, GetLock(name("a")))
    trio.loses_entries = True  # but no heartbeats: the read's round succeeds
    trio.pass_time(100)
    assert caller.take() == []
    trio.loses_entries = False
    trio.pass_time(60_000)
    assert len(leader.node.table.locks) == 0
    assert caller.take() == [None]


def test_what_is_too_much_to_be_uncommitted_waits_for_its_turn() -> None:
    trio = Trio(uncommitted_bytes_max=2_000)
    leader = trio.elect("n1")
    trio.alone = {"n1"}
    callers = [Caller() for _ in range(40)]
    for position, caller in enumerate(callers):
        leader.node.submit(caller, [acquire(f"{position}", "o" * 500)])
        leader.turn()
    assert leader.node.core.is_busy
    assert len(leader.commands()) < 20
    trio.alone = set()
    trio.pass_time(200)
    results = [result for caller in callers for result in caller.take()]
    assert [type(result) for result in results] == [Granted] * 40
    assert sorted(results, key=lambda granted: granted.version) == results


# --- how many commands an entry has --------------------------------------------------------------

ENOUGH = limits.GATHERED_ENOUGH


def entries_of(server: Server) -> list[int]:
    """How many commands of clients each entry of a server's log has."""
    counts = [
        sum(isinstance(operation, Acquire) for operation in decode_run(entry.payload))
        for entry in server.entries
        if entry.kind is EntryKind.RUN
    ]
    return [count for count in counts if count]


def test_commands_gather_while_others_are_under_way(trio: Trio) -> None:
    leader = trio.elect("n1")
    trio.alone = {"n1"}
    for key in "abcdefghi":
        leader.node.submit(Caller(), [acquire(key)])
        leader.turn()
    assert entries_of(leader) == [1, 2, 6], "twice as many as are under way"


def test_what_has_gathered_is_enough_however_much_is_under_way(trio: Trio) -> None:
    leader = trio.elect("n1")
    trio.alone = {"n1"}
    leader.node.submit(Caller(), [acquire(f"first-{n}") for n in range(ENOUGH)])
    leader.turn()
    for n in range(ENOUGH + 1):
        leader.node.submit(Caller(), [acquire(f"{n}")])
        leader.turn()
    assert entries_of(leader) == [ENOUGH, ENOUGH]


def test_what_has_gathered_goes_once_nothing_is_under_way(trio: Trio) -> None:
    leader = trio.elect("n1")
    callers = [Caller() for _ in range(10)]
    leader.node.submit(callers[0], [acquire("0"), acquire("00")])
    leader.turn()
    for position, caller in enumerate(callers[1:4], 1):
        leader.node.submit(caller, [acquire(f"{position}")])
        leader.turn()
    assert not leader.node.busy, "it waits for the followers"
    trio.settle()
    assert [len(caller.take()) for caller in callers[:4]] == [2, 1, 1, 1]
    assert entries_of(leader) == [2, 3]


def test_who_is_alone_never_waits_for_others(trio: Trio) -> None:
    leader = trio.elect("n1")
    caller = Caller()
    for key in "abc":
        leader.node.submit(caller, [acquire(key)])
        trio.settle()
        assert len(caller.take()) == 1
    assert entries_of(leader) == [1, 1, 1]


# --- bounds --------------------------------------------------------------------------------------


def test_a_bounded_number_waits_to_be_proposed(trio: Trio) -> None:
    server = trio["n1"]
    caller = Caller()
    rounds = limits.PROPOSALS_QUEUED_MAX // 1_024 + 10
    for _ in range(rounds):
        server.node.submit(caller, [acquire("a")] * 1_024)
    server.turn()
    refused = caller.take()
    assert refused
    assert {type(result) for result in refused} == {Busy}
    waiting = rounds * 1_024 - len(refused)
    assert waiting <= limits.PROPOSALS_QUEUED_MAX + limits.RUN_COMMANDS_MAX
    trio.elect("n1")
    trio.pass_time(200)
    assert len(caller.take()) == waiting


# --- snapshots and restarts ----------------------------------------------------------------------


def test_a_snapshot_is_due_after_so_many_commands() -> None:
    server = Server(snapshot_entries=100).lead()
    assert not server.node.snapshot_due
    while not server.node.snapshot_due:
        server.do(*(acquire(f"{each}") for each in range(10)))
        assert server.node.core.applied_index < 120
    assert server.node.core.applied_index >= 100
    server.snapshot()
    assert not server.node.snapshot_due
    assert server.log.snapshot.index == server.node.core.applied_index


def test_a_snapshot_is_the_table_as_it_was_when_it_began(server: Server) -> None:
    server.do(*(acquire(f"{each}") for each in range(2_000)))
    meta, chunks = server.node.begin_snapshot()
    frozen = image_of_copy(server)
    given = [chunks.next_chunk()]
    server.do(*(release(f"{each}") for each in range(2_000)), acquire("new"))
    while given[-1] is not None:
        given.append(chunks.next_chunk())
    assert given[:-1] == frozen
    assert meta.index < server.node.core.applied_index
    server.chunks = [chunk for chunk in given if chunk is not None]
    server.log.compact(meta)
    server.node.snapshot_taken(meta)
    before = image(server.node.table)
    server.start()
    server.node.core.campaign()
    server.work()
    assert image(server.node.table) == before


def image_of_copy(server: Server) -> list[bytes]:
    """The table's image without freezing it: made by replaying the log."""
    table = LockTable()
    for entry in server.entries:
        run = decode_run(entry.payload) if entry.kind is EntryKind.RUN else []
        table.apply(Index(entry.first), entry.stamp_ms, run)
    return image(table)


keys = st.sampled_from(["a", "b", "c", "{t}x", "{t}y"])
owners = st.sampled_from(["me", "you", "they"])
ttls = st.sampled_from([0, 1, 50, 500, 7_000, 60_000])
requests = st.sampled_from([b"", b"", b"r1", b"r2"])
operations = st.one_of(
    st.builds(
        lambda key, owner, ttl_ms, request: acquire(key, owner, ttl_ms, request=request),
        keys,
        owners,
        ttls,
        requests,
    ),
    st.builds(release, keys, owners),
    st.builds(lambda key, owner, ttl: Renew(name(key), owner.encode(), 0, ttl), keys, owners, ttls),
    st.builds(lambda owner: KeepAlive(owner.encode()), owners),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.lists(operations, min_size=1, max_size=4)),
        st.tuples(st.just("ask"), keys),
        st.tuples(st.just("turn"), st.none()),
        st.tuples(st.just("time"), st.sampled_from([10, 100, 1_000, 9_000])),
        st.tuples(st.just("stall"), st.sampled_from([30, 700, 20_000])),
        st.tuples(st.just("unix"), st.sampled_from([-3_000, 500, 90_000])),
        st.tuples(st.just("snapshot"), st.none()),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=30,
)


@budget
@given(steps)
def test_any_sequence_keeps_the_rules(script: list[tuple[str, Any]]) -> None:
    """Stamps never go back, each command gets one answer, a restart gives the same table."""
    server = Server().lead()
    caller = Caller()
    asked = 0
    stamp_ms = 0
    versions: list[int] = []
    for step, argument in script:
        match step:
            case "submit":
                server.node.submit(caller, argument)
                asked += len(argument)
            case "ask":
                server.node.ask(caller, GetLock(name(argument)))
                asked += 1
            case "turn":
                server.turn()
            case "time":
                server.pass_time(argument)
            case "stall":
                server.now_ms += argument
            case "unix":
                server.unix_ms += argument
            case "snapshot":
                server.snapshot()
            case "restart":
                server.settle()
                before = image(server.node.table)
                server.start()
                server.node.core.campaign()
                server.work()
                assert image(server.node.table) == before
                server.settle()
        for entry in server.entries:
            assert entry.stamp_ms >= stamp_ms or entry.last <= server.log.snapshot.index
        stamps = [entry.stamp_ms for entry in server.entries]
        assert stamps == sorted(stamps)
    server.settle()
    results = caller.take()
    assert len(results) == asked
    versions = [result.version for result in results if isinstance(result, Granted)]
    assert all(version > 0 for version in versions)
    server.node.table.check()
