"""Commands that reach a follower: forwarded, answered, and what a change of leader does to them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from resplock import limits
from resplock.node.administration import AddServer, RemoveServer, Transfer
from resplock.node.messages import Forward, NotProposed, Results, encode
from resplock.operations import (
    Advised,
    CheckVersion,
    CountKeys,
    CountLocks,
    Done,
    Execute,
    Executed,
    GetBackoff,
    GetLock,
    Granted,
    Held,
    InDoubt,
    LockInfo,
    Look,
    Moved,
    NoLeader,
    Released,
    Watch,
)
from resplock.types import NodeId
from tests.node.servers import (
    Caller,
    Server,
    Trio,
    acquire,
    lose_leadership,
    member_of,
    name,
    release,
)


@pytest.fixture
def trio() -> Trio:
    trio = Trio()
    trio.elect("n1")
    trio.pass_time(100)
    return trio


def kinds(caller: Caller) -> list[str]:
    return [type(result).__name__ for result in caller.take()]


def test_a_followers_commands_are_decided_by_the_leader(trio: Trio) -> None:
    one, two = Caller(), Caller()
    trio["n2"].node.submit(one, [acquire("a"), acquire("b")])
    trio["n3"].node.submit(two, [acquire("a", "you")])
    trio.settle()
    first, second = one.take()
    [held] = two.take()
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert second.version == first.version + 1
    assert isinstance(held, Held)
    assert held.version == first.version


def test_a_followers_turn_is_one_message(trio: Trio) -> None:
    for each in range(10):
        trio["n2"].node.submit(Caller(), [acquire(f"{each}")])
    trio["n2"].turn()
    assert len(trio["n2"].mail) == 1


def test_a_pipeline_keeps_its_order(trio: Trio) -> None:
    caller = Caller()
    for _ in range(20):
        trio["n2"].node.submit(caller, [acquire("a"), release("a")])
        trio["n2"].turn()
    trio.settle()
    assert kinds(caller) == ["Granted", "Released"] * 20


def test_reads_of_a_follower_are_linearizable(trio: Trio) -> None:
    caller = Caller()
    trio["n3"].node.submit(caller, [acquire("a")])
    trio.settle()
    [granted] = caller.take()
    assert isinstance(granted, Granted)
    for each in range(40):
        trio["n2"].node.ask(caller, CheckVersion(name("a"), granted.version + each % 2))
    trio["n2"].node.ask(caller, GetLock(name("a")))
    trio.settle()
    *checks, info = caller.take()
    assert checks == [1, 0] * 20
    assert isinstance(info, LockInfo)


def test_a_readonly_connection_sees_the_followers_own_state(trio: Trio) -> None:
    trio["n1"].node.submit(Caller(), [acquire("a")])
    trio.settle()
    trio.pass_time(100)
    info = trio["n2"].node.peek(GetLock(name("a")))
    assert isinstance(info, LockInfo)
    assert info.owner == b"me"


def test_what_a_lost_leader_refuses_is_proposed_by_the_next(trio: Trio) -> None:
    caller = Caller()
    lose_leadership(trio, trio["n1"])
    trio["n2"].node.submit(caller, [acquire("a")])
    trio["n2"].turn()  # n2 still believes in n1
    assert len(trio["n2"].mail) == 1
    trio.settle()
    assert caller.take() == []
    trio.elect("n3")
    trio.pass_time(200)
    assert kinds(caller) == ["Granted"]
    assert trio["n3"].commands().count(acquire("a")) == 1


def test_nobody_asks_again_who_has_just_said_no(trio: Trio) -> None:
    lose_leadership(trio, trio["n1"])
    trio["n2"].node.submit(Caller(), [acquire("a")])
    trio["n2"].node.ask(Caller(), GetLock(name("a")))
    trio.settle()  # raises when messages go to and fro for ever
    assert not trio["n2"].mail


def test_a_refusal_that_comes_too_late_concerns_nobody(trio: Trio) -> None:
    """A leader that stood still answers for its old term while the next one is being asked."""
    old, new, follower = Caller(), Caller(), trio["n2"]
    follower.node.submit(old, [acquire("a")])
    follower.turn()
    _, forwarded = follower.mail.popleft()
    lose_leadership(trio, trio["n1"])
    trio.elect("n3")
    trio.pass_time(200)
    assert old.take() == [InDoubt()]
    follower.node.submit(new, [acquire("b")])
    follower.turn()
    follower.node.receive(NodeId("n1"), NotProposed(forwarded.serial))
    trio.settle()
    assert kinds(new) == ["Granted"]
    follower.node.submit(new, [acquire("c")])
    trio.settle()
    assert kinds(new) == ["Granted"]


def test_refusals_that_arrive_one_by_one_change_no_order(trio: Trio) -> None:
    """What is proposed again is proposed in the order in which the client asked."""
    caller, follower = Caller(), trio["n2"]
    for operation in (acquire("a"), release("a"), acquire("b")):
        follower.node.submit(caller, [operation])
        follower.turn()
    lose_leadership(trio, trio["n1"])
    trio["n1"].turn()
    forwarded = [message for _, message in follower.mail]
    follower.mail.clear()
    for message in forwarded:
        trio["n1"].node.receive(NodeId("n2"), message)
    trio["n1"].turn()
    assert len(trio["n1"].mail) == 3
    for _, refusal in trio["n1"].mail:
        follower.node.receive(NodeId("n1"), refusal)
        follower.turn()
    trio["n1"].mail.clear()
    trio.elect("n3")
    trio.pass_time(200)
    assert kinds(caller) == ["Granted", "Released", "Granted"]


def test_what_was_overwritten_is_proposed_again_in_order(trio: Trio) -> None:
    """Though the entries in its place are applied one by one, or never come."""
    caller = Caller()
    trio.alone = {"n1"}
    for operation in (acquire("a"), release("a"), acquire("b")):
        trio["n1"].node.submit(caller, [operation])
        trio["n1"].turn()
    lose_leadership(trio, trio["n1"])
    trio.elect("n2")
    trio.pass_time(200)
    assert kinds(caller) == ["Granted", "Released", "Granted"]
    assert trio["n2"].commands()[-3:] == [acquire("a"), release("a"), acquire("b")]


def test_without_a_leader_what_was_given_back_is_refused_in_its_place(trio: Trio) -> None:
    caller, follower = Caller(), trio["n2"]
    follower.node.submit(caller, [acquire("a")])
    follower.turn()
    _, forwarded = follower.mail.popleft()
    lose_leadership(trio, trio["n1"])
    trio.alone = {"n1", "n2", "n3"}
    follower.node.link_down(NodeId("n3"))
    follower.node.receive(NodeId("n1"), NotProposed(forwarded.serial))
    follower.node.submit(caller, [acquire("b"), acquire("c")])
    trio.pass_time(2 * 500 + 100)
    assert caller.take() == [NoLeader()] * 3
    follower.node.receive(NodeId("n1"), NotProposed(forwarded.serial))
    trio.alone = set()
    trio.pass_time(2 * 500)
    assert caller.take() == []
    assert acquire("a") not in trio["n1"].commands() + trio["n3"].commands()


def test_a_former_leader_that_was_busy_forwards(trio: Trio) -> None:
    trio = Trio(uncommitted_bytes_max=1)
    trio.elect("n1")
    trio.pass_time(100)
    caller = Caller()
    trio.alone = {"n1"}
    trio["n1"].node.submit(caller, [acquire("a")])
    trio["n1"].turn()
    assert trio["n1"].node.core.is_busy
    trio["n1"].node.submit(caller, [acquire("b")])
    trio.pass_time(3 * 500)
    trio.alone = set()
    trio.pass_time(3 * 500)
    assert not trio["n1"].node.core.is_leader
    assert len(caller.take()) == 2
    trio["n1"].node.submit(caller, [acquire("c")])
    trio.pass_time(100)
    assert kinds(caller) == ["Granted"]


def test_a_question_of_another_term_is_not_served(trio: Trio) -> None:
    leader = trio["n1"].node
    trio["n2"].node.submit(Caller(), [acquire("a")])
    trio["n2"].turn()
    _, question = trio["n2"].mail.popleft()
    lose_leadership(trio, trio["n1"])
    trio.elect("n1")
    leader.receive(NodeId("n2"), question)
    trio["n1"].turn()
    assert [message for _, message in trio["n1"].mail] == [NotProposed(question.serial)]
    trio.pass_time(100)
    assert trio["n1"].commands().count(acquire("a")) == 1, "only when it was asked again"


def test_a_broken_link_leaves_commands_in_doubt_and_repeats_reads(trio: Trio) -> None:
    writer, reader = Caller(), Caller()
    trio["n2"].node.submit(writer, [acquire("a")])
    trio["n2"].node.ask(reader, CheckVersion(name("a"), 1))
    trio["n2"].turn()
    trio.unlink(trio["n2"])
    trio["n2"].turn()
    assert writer.take() == [InDoubt()]
    assert reader.take() == []
    trio.link(trio["n2"])
    trio.pass_time(100)
    assert reader.take() == [0]


def test_answers_for_an_earlier_link_go_nowhere(trio: Trio) -> None:
    trio["n2"].node.submit(Caller(), [acquire("a")])
    trio["n2"].turn()
    trio.carry()
    trio.unlink(trio["n2"])
    trio["n2"].incarnation += 1
    trio.link(trio["n2"])
    for _ in range(20):
        for server in trio.servers.values():
            server.turn()
        assert not trio["n1"].mail
        trio.carry()
    assert acquire("a") in trio["n1"].commands()
    assert trio["n1"].node.unresolved == 0


def test_a_lost_answer_is_not_waited_for_for_ever(trio: Trio) -> None:
    """The link's other end broke before the question came, and nobody noticed here."""
    writer, reader, operator, follower = Caller(), Caller(), Caller(), trio["n2"]
    follower.node.submit(writer, [acquire("a")])
    follower.node.ask(reader, CheckVersion(name("a"), 1))
    follower.node.administer(operator, RemoveServer(NodeId("n9")))
    follower.turn()
    for _, message in follower.mail:
        trio["n1"].node.receive(NodeId("n2"), message)
    follower.mail.clear()
    trio["n1"].node.link_down(NodeId("n2"))
    trio["n1"].node.link_up(NodeId("n2"), follower.incarnation)
    trio.pass_time(limits.ANSWER_MS_MAX - 500)
    assert [each.take() for each in (writer, reader, operator)] == [[]] * 3
    trio.pass_time(600)
    assert writer.take() == [InDoubt()]
    assert reader.take() == [0]
    assert operator.take() == [Done()]
    follower.node.submit(writer, [release("a")])
    trio.pass_time(100)
    assert kinds(writer) == ["Released"], "it had been granted"


def test_a_lost_answer_to_a_query_changes_no_order(trio: Trio) -> None:
    """The next answer shows that it is missing: it must not be taken for the first."""
    reader, follower = Caller(), trio["n2"]
    for key in ("a", "b"):
        follower.node.submit(Caller(), [acquire(key)])
    trio.settle()
    for lost in (True, False):
        follower.node.ask(reader, GetLock(name("a" if lost else "b")))
        follower.turn()
        while trio.carry():
            for server in trio.servers.values():
                server.turn()
            if lost:
                trio["n1"].mail.clear()
    trio.pass_time(100)
    assert [getattr(info, "name", None) for info in reader.take()] == [name("a"), name("b")]


def test_an_answer_that_does_not_fit_says_nothing(trio: Trio) -> None:
    follower = trio["n2"]
    callers = [Caller() for _ in range(4)]
    writer, one, two, operator = callers
    follower.node.submit(writer, [acquire("a")])
    follower.node.ask(one, CheckVersion(name("a"), 1))
    follower.node.ask(two, CheckVersion(name("a"), 2))
    follower.node.administer(operator, RemoveServer(NodeId("n9")))
    follower.turn()
    assert len(follower.mail) == 3
    for _, message in follower.mail:
        assert not isinstance(message, Results | NotProposed)
        follower.node.receive(NodeId("n1"), Results(message.serial, [0, 0, 0]))
    follower.mail.clear()
    follower.turn()
    assert [caller.take() for caller in callers] == [[InDoubt()]] * 4


def test_a_forwarded_message_has_so_many_commands_and_bytes(trio: Trio) -> None:
    """So that it and its answers fit into the longest message."""
    follower, callers = trio["n2"], [Caller() for _ in range(30)]
    for number, caller in enumerate(callers):
        follower.node.submit(caller, [acquire(f"{number}-{each}") for each in range(500)])
    follower.turn()
    sizes = [len(message.operations) for message in forwards(follower)]
    assert sum(sizes) == 15_000
    assert max(sizes) <= limits.FORWARDED_COMMANDS_MAX
    trio.settle()
    assert all(kinds(caller) == ["Granted"] * 500 for caller in callers)

    for number, caller in enumerate(callers):
        owner = f"{number}".rjust(limits.OWNER_BYTES_MAX, "o")
        follower.node.submit(caller, [acquire(f"{number}-{each}", owner) for each in range(100)])
    follower.turn()
    sent = forwards(follower)
    assert len(sent) > 1
    assert max(len(encode(message)) for message in sent) <= limits.RUN_BYTES_MAX + 100
    trio.settle()
    assert all(kinds(caller) == ["Held"] * 100 for caller in callers)


def forwards(server: Server) -> list[Forward]:
    return [message for _, message in server.mail if isinstance(message, Forward)]


def test_a_silent_leader_leaves_commands_in_doubt_once_another_leads(trio: Trio) -> None:
    caller, later = Caller(), Caller()
    trio["n2"].node.submit(caller, [acquire("a")])
    trio["n2"].turn()
    trio.alone = {"n1"}
    trio["n2"].node.submit(later, [acquire("b")])
    trio.pass_time(3 * 500)
    assert caller.take() == [InDoubt()]
    assert kinds(later) in (["Granted"], ["InDoubt"])
    assert trio["n2"].node.core.is_leader or trio["n3"].node.core.is_leader


def test_a_former_leader_learns_what_became_of_its_proposals(trio: Trio) -> None:
    """Proposed, replicated, and committed only by the next leader: it is known, not in doubt."""
    caller = Caller()
    trio["n1"].node.submit(caller, [acquire("a"), release("a")])
    trio["n1"].turn()
    entries = [message for message in trio["n1"].outbox if message.to_id == "n2"]
    trio["n1"].outbox.clear()
    for message in entries:
        trio["n2"].node.step(message)
    trio["n2"].turn()
    trio["n2"].outbox.clear()  # n1 never hears that n2 has it
    lose_leadership(trio, trio["n1"])
    trio.elect("n2")
    trio.pass_time(200)
    assert kinds(caller) == ["Granted", "Released"]


def test_a_former_leader_proposes_again_what_was_overwritten(trio: Trio) -> None:
    caller = Caller()
    trio.alone = {"n1"}
    trio["n1"].node.submit(caller, [acquire("a")])
    trio["n1"].turn()
    lose_leadership(trio, trio["n1"])
    trio["n1"].node.submit(caller, [acquire("b")])
    trio["n1"].turn()
    trio.elect("n2")
    trio.pass_time(300)
    first, second = caller.take()
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)
    assert first.version < second.version
    assert trio["n2"].commands().count(acquire("a")) == 1


def test_a_follower_that_comes_to_lead_goes_on_in_order(trio: Trio) -> None:
    caller = Caller()
    trio["n2"].node.submit(caller, [acquire("a")])
    trio["n2"].turn()
    trio.unlink(trio["n1"])
    trio.alone = {"n1"}
    trio["n2"].node.submit(caller, [acquire("b")])
    trio.pass_time(3 * 500)
    assert kinds(caller) == ["InDoubt", "Granted"]


def test_without_a_link_to_the_leader_nothing_was_proposed(trio: Trio) -> None:
    trio["n2"].node.link_down(NodeId("n1"))
    caller = Caller()
    trio["n2"].node.submit(caller, [acquire("a")])
    trio["n2"].node.ask(caller, GetLock(name("a")))
    trio["n2"].node.administer(caller, RemoveServer(NodeId("n9")))
    trio.pass_time(2 * 500 + 50)
    assert caller.take() == [NoLeader()] * 3


def test_redirection_names_the_leader() -> None:
    trio = Trio(redirects=True)
    trio.elect("n1")
    trio.pass_time(100)
    caller = Caller()
    trio["n2"].node.submit(caller, [acquire("foo"), release("bar")])
    trio["n2"].node.ask(caller, GetLock(name("foo")))
    trio["n2"].turn()
    assert caller.take() == [
        Moved(12182, "host-n1:1"),
        Moved(5061, "host-n1:1"),
        Moved(12182, "host-n1:1"),
    ]


def test_a_transaction_is_redirected_by_the_first_key_that_it_names() -> None:
    trio = Trio(redirects=True)
    trio.elect("n1")
    trio.pass_time(100)
    caller = Caller()
    looks_first = Execute((Look(GetLock(name("foo"))), release("bar")))
    watches = Execute((), ((name("bar"), 7),))
    for transaction in (
        looks_first,
        Execute((Look(CountKeys((name("foo"),))), release("bar"))),
        watches,
        Execute(),
    ):
        trio["n2"].node.submit(caller, [transaction])
    trio["n2"].turn()
    assert [moved.slot for moved in caller.take()] == [12182, 12182, 5061, 0]


def test_a_follower_forwards_a_transaction_and_a_watch() -> None:
    trio = Trio()
    trio.elect("n1")
    trio.pass_time(100)
    caller = Caller()
    trio["n2"].node.submit(caller, [Watch((name("foo"),))])
    trio.pass_time(50)
    [watched] = caller.take()
    transaction = Execute(
        (acquire("foo"), Look(GetBackoff(name("foo"))), Look(CountLocks(0))),
        ((name("foo"), watched.numbers[0]),),
    )
    trio["n2"].node.submit(caller, [transaction, transaction])
    trio.pass_time(50)
    done, given_up = caller.take()
    granted, advised, count = done.results
    assert isinstance(granted, Granted)
    assert isinstance(advised, Advised)
    assert count == 1
    assert given_up == Executed(None)


def test_nobody_is_redirected_before_the_earlier_commands_are_answered() -> None:
    trio = Trio(redirects=True)
    trio.elect("n1")
    trio.pass_time(100)
    caller = Caller()
    trio.alone = {"n1"}
    trio["n1"].node.submit(caller, [acquire("a")])
    trio["n1"].turn()
    lose_leadership(trio, trio["n1"])
    trio.loses_entries = True
    trio.elect("n2")
    trio["n1"].node.submit(caller, [acquire("b")])
    trio.pass_time(50)
    assert trio["n1"].node.core.leader_id == "n2"
    assert caller.take() == [], "the first command may still be committed"
    trio.loses_entries = False
    trio.pass_time(200)
    assert kinds(caller) == ["Moved", "Moved"]


def test_operators_are_not_redirected() -> None:
    trio = Trio(redirects=True)
    trio.elect("n1")
    trio.pass_time(100)
    operator = Caller()
    trio["n2"].node.administer(operator, RemoveServer(NodeId("n3")))
    trio.pass_time(200)
    assert operator.take() == [Done()]


def test_what_came_of_commands_is_counted(trio: Trio) -> None:
    follower = trio["n2"].node
    before = follower.proposals.added
    follower.submit(Caller(), [acquire("a"), release("a")])
    trio["n2"].turn()
    assert (follower.proposals.added - before, follower.unresolved) == (2, 2)
    trio.pass_time(100)
    assert (follower.proposals.successful, follower.unresolved) == (2, 0)
    follower.submit(Caller(), [acquire("b")])
    trio["n2"].turn()
    trio.unlink(trio["n2"])
    assert follower.proposals.in_doubt == 1
    follower.submit(Caller(), [acquire("c")])
    trio.alone = {"n2"}
    trio.pass_time(3 * 500)
    counts = follower.proposals
    assert (counts.unserved, counts.refused, counts.given_back, counts.added) == (1, 0, 0, 4)


def test_what_is_proposed_again_is_counted_as_given_back(trio: Trio) -> None:
    former = trio["n1"].node
    before = former.proposals.added - former.proposals.given_back
    trio.alone = {"n1"}
    former.submit(Caller(), [acquire("a")])
    trio["n1"].turn()
    lose_leadership(trio, trio["n1"])
    trio.elect("n2")
    trio.pass_time(300)
    counts = former.proposals
    assert counts.given_back == 1
    assert counts.added - counts.given_back - before == 1


# --- membership ----------------------------------------------------------------------------------


def test_a_server_is_removed_and_added_through_a_follower(trio: Trio) -> None:
    caller = Caller()
    trio["n2"].node.administer(caller, RemoveServer(NodeId("n3")))
    trio.pass_time(200)
    assert caller.take() == [Done()]
    assert [member.id for member in trio["n1"].node.core.configuration.voters] == ["n1", "n2"]
    trio["n2"].node.administer(caller, RemoveServer(NodeId("n3")))
    trio.pass_time(200)
    assert caller.take() == [Done()], "it is gone already"
    newcomer = member_of("n4")
    trio["n2"].node.administer(caller, AddServer(newcomer))
    trio.pass_time(200)
    assert caller.take() == [Done()]
    assert trio["n1"].node.core.configuration.learners == (newcomer,)
    trio["n1"].node.administer(caller, AddServer(newcomer))
    trio.pass_time(200)
    assert caller.take() == [Done()]


def test_the_last_voter_stays(trio: Trio) -> None:
    caller = Caller()
    for gone in ("n3", "n2"):
        trio["n1"].node.administer(caller, RemoveServer(NodeId(gone)))
        trio.pass_time(200)
    assert caller.take() == [Done(), Done()]
    trio["n1"].node.administer(caller, RemoveServer(NodeId("n1")))
    trio.pass_time(200)
    [refused] = caller.take()
    assert "voter" in str(refused)


def test_a_wiped_server_takes_its_old_place_as_a_learner_and_is_promoted(trio: Trio) -> None:
    trio["n1"].node.submit(Caller(), [acquire("a")])
    trio.pass_time(100)
    wiped = trio.wipe("n3")
    trio["n1"].node.member_seen(wiped)
    trio.pass_time(60)
    configuration = trio["n1"].node.core.configuration
    assert wiped in configuration.voters + configuration.learners
    assert "n3/u-n3" in configuration.removed
    trio.pass_time(1_000)
    assert wiped in trio["n1"].node.core.configuration.voters
    assert trio["n3"].commands() == trio["n1"].commands()


def test_leadership_is_handed_over_and_nothing_is_in_doubt(trio: Trio) -> None:
    caller, others = Caller(), [Caller() for _ in range(30)]
    for each, other in enumerate(others):
        name = f"n{each % 3 + 1}"
        trio[name].node.submit(other, [acquire(f"{each}")])
        if each == 10:
            trio["n3"].node.administer(caller, Transfer(NodeId("n2")))
        trio[name].turn()
        trio.carry()
    trio.pass_time(200)
    assert caller.take() == [Done()]
    assert trio["n2"].node.core.is_leader
    assert [kinds(other) for other in others] == [["Granted"]] * 30


def test_a_transfer_to_whomever_moves_the_leadership_once(trio: Trio) -> None:
    caller = Caller()
    trio["n3"].node.administer(caller, Transfer())
    trio.pass_time(200)
    assert caller.take() == [Done()]
    assert not trio["n1"].node.core.is_leader
    term = trio["n3"].node.core.term
    trio.pass_time(1_000)
    assert trio["n3"].node.core.term == term


def test_a_transfer_to_nobody_is_refused(trio: Trio) -> None:
    caller = Caller()
    trio["n1"].node.administer(caller, Transfer(NodeId("n9")))
    trio.pass_time(100)
    [refused] = caller.take()
    assert "only a voter can lead" in str(refused)


def test_a_wiped_server_acknowledges_nothing_in_its_predecessors_name(trio: Trio) -> None:
    """Else the leader would commit with a server that may not remember what it has promised."""
    trio["n1"].node.member_seen(trio.wipe("n2"))
    trio.alone = {"n3"}
    caller = Caller()
    trio["n1"].node.submit(caller, [acquire("a")])
    trio["n1"].turn()
    trio.settle()
    assert trio["n2"].commands()[-1:] == [acquire("a")], "it took it"
    assert caller.take() == [], "and did not count"
    trio.alone = set()
    trio.pass_time(300)
    assert kinds(caller) == ["Granted"]


def test_nor_while_it_cannot_be_replaced_yet(trio: Trio) -> None:
    """An earlier change is in flight, and would be committed with the stranger's help."""
    leader, operator, caller = trio["n1"], Caller(), Caller()
    trio.alone = {"n2", "n3"}
    leader.node.administer(operator, AddServer(member_of("n4")))
    trio.pass_time(50)
    leader.node.member_seen(trio.wipe("n2"))
    trio.alone = {"n3"}
    leader.node.submit(caller, [acquire("a")])
    trio.pass_time(300)
    assert (operator.take(), caller.take()) == ([], [])
    trio.alone = set()
    trio.pass_time(500)
    assert operator.take() == [Done()]
    assert kinds(caller) == ["Granted"]


def test_a_server_that_has_moved_gets_its_new_address(trio: Trio) -> None:
    moved = replace(member_of("n2"), client_address="elsewhere:1")
    trio["n1"].node.member_seen(moved)
    trio.pass_time(200)
    assert moved in trio["n3"].node.core.configuration.voters


def test_released_is_answered_across_nodes(trio: Trio) -> None:
    caller = Caller()
    trio["n2"].node.submit(caller, [acquire("a")])
    trio["n2"].turn()
    trio["n2"].node.submit(caller, [release("a")])
    trio.settle()
    assert caller.take()[1] == Released()
