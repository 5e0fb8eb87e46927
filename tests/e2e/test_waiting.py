"""Waiting in line over real sockets and processes: who is served, and what becomes of those who leave,
whose node is killed, or whose leader is lost meanwhile."""

from __future__ import annotations

import select
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from resplock import limits
from tests.e2e.cluster import ELECTION_TIMEOUT_MS, Cluster, ClusterNode
from tests.e2e.conftest import MakeCluster
from tests.e2e.process import ServerProcess
from tests.e2e.waiting import eventually, now_ms
from tests.e2e.wire import Closed, Failure, Wire, by_field

WAIT = ("WAIT", 60_000)
ONCLOSE = ("ONCLOSE", "RELEASE")
GONE_MS_MAX = limits.NODE_GONE_MS + 4 * ELECTION_TIMEOUT_MS + 2_000
"""Within so long what was attached to a node that is killed has ended, on a busy machine."""


_opened: list[Wire] = []


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def ask(node: ServerProcess, key: str, owner: str, *more: object) -> Wire:
    """A connection that has asked for a lock, and whose answer is not read yet."""
    wire = node.wire()
    _opened.append(wire)
    wire.send("LOCK.ACQUIRE", key, owner, *more)
    return wire


def answer(wire: Wire) -> dict[str, Any]:
    reply = wire.receive()
    assert not isinstance(reply, Failure), reply
    return by_field(reply)


def take(node: ServerProcess, key: str, owner: str, *more: object) -> Wire:
    """A connection that has the lock."""
    wire = ask(node, key, owner, *more)
    assert answer(wire)["status"] == b"granted"
    return wire


def release(node: ServerProcess, key: str, owner: str) -> Any:
    """Who is next, if anybody is."""
    with node.wire() as wire:
        return wire.map("LOCK.RELEASE", key, owner)["promoted"]


def info(node: ServerProcess, key: str) -> dict[str, Any]:
    with node.wire(protocol=3) as wire:
        reply = wire.call("LOCK.GET", key, "WAITERS")
    return by_field(reply) if reply is not None else {}


def owner(node: ServerProcess, key: str) -> Any:
    return info(node, key).get("owner")


def queue(node: ServerProcess, key: str) -> list[bytes]:
    """The owners of the places, in order."""
    return [by_field(waiter)["owner"] for waiter in info(node, key).get("waiters", [])]


def count(node: ServerProcess, key: str) -> int:
    """How many places there are."""
    with node.wire() as wire:
        return int(wire.map("LOCK.GET", key)["waiter_count"])


def wait_for_queue(node: ServerProcess, key: str, *owners: str) -> None:
    expected = [each.encode() for each in owners]
    eventually(lambda: queue(node, key) == expected, f"{owners} in line, not {queue(node, key)}")


def answered(wires: Sequence[Wire]) -> list[Wire]:
    """Those that have something to read."""
    poll = select.poll()
    by_number = {wire.fileno(): wire for wire in wires}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return [by_number[number] for number, _ in poll.poll(0)]


# --- one node ------------------------------------------------------------------------------------


def test_first_come_first_served(server: ServerProcess) -> None:
    take(server, "fifo", "a")
    waiting = {name: ask(server, "fifo", name, *WAIT) for name in ("b",)}
    wait_for_queue(server, "fifo", "b")
    waiting["c"] = ask(server, "fifo", "c", *WAIT)
    wait_for_queue(server, "fifo", "b", "c")
    waiting["urgent"] = ask(server, "fifo", "urgent", *WAIT, "PRIORITY", 5)
    wait_for_queue(server, "fifo", "urgent", "b", "c")
    versions = []
    for holder, following in (("a", "urgent"), ("urgent", "b"), ("b", "c")):
        assert release(server, "fifo", holder) == following.encode()
        granted = answer(waiting[following])
        assert granted["status"] == b"granted"
        versions.append(granted["version"])
    assert versions == sorted(set(versions))


def test_a_wait_runs_out_while_nobody_asks_anything(server: ServerProcess) -> None:
    take(server, "out", "a")
    began = now_ms()
    timeout = answer(ask(server, "out", "b", "WAIT", 300))
    assert now_ms() - began >= 290
    assert timeout["status"] == b"timeout"
    assert timeout["owner"] == b"a"


def test_what_is_sent_behind_a_wait_runs_after_it(server: ServerProcess) -> None:
    take(server, "behind", "a")
    wire = ask(server, "behind", "b", *WAIT)
    wire.send("LOCK.RELEASE", "behind", "b")
    wire.send("PING")
    wait_for_queue(server, "behind", "b")
    assert not answered([wire])
    release(server, "behind", "a")
    assert answer(wire)["status"] == b"granted"
    assert by_field(wire.receive())["released"] == 1
    assert wire.receive() == "PONG"


@pytest.mark.parametrize("how", ["closes", "shuts its side", "is killed"])
def test_a_client_that_is_gone_is_not_served(server: ServerProcess, how: str) -> None:
    key = f"gone-{how}"
    take(server, key, "a")
    leaver = ask(server, key, "b", *WAIT)
    wait_for_queue(server, key, "b")
    stayer = ask(server, key, "c", *WAIT)
    wait_for_queue(server, key, "b", "c")
    match how:
        case "closes":
            leaver.close()
        case "shuts its side":
            leaver.send_no_more()
        case _:
            [line] = [
                line
                for line in server.call("CLIENT", "LIST").decode().splitlines()
                if f":{leaver.port} " in line
            ]
            id = dict(pair.split("=", 1) for pair in line.split())["id"]
            assert server.call("CLIENT", "KILL", "ID", id) == 1
    wait_for_queue(server, key, "c")
    assert release(server, key, "a") == b"c"
    assert answer(stayer)["status"] == b"granted"


def test_client_unblock(server: ServerProcess) -> None:
    take(server, "unblock", "a")
    with server.wire() as one, server.wire() as two:
        for wire, name in ((one, "one"), (two, "two")):
            id = wire.call("CLIENT", "ID")
            wire.send("LOCK.ACQUIRE", "unblock", name, *WAIT)
            wait_for_queue(server, "unblock", name)
            assert " flags=b " in server.call("CLIENT", "LIST", "ID", id).decode()
            assert b"blocked_clients:1\r\n" in server.call("INFO", "clients")
            how = ["ERROR"] if wire is two else []
            assert server.call("CLIENT", "UNBLOCK", id, *how) == 1
            assert server.call("CLIENT", "UNBLOCK", id) == 0
            wait_for_queue(server, "unblock")
        assert answer(one)["status"] == b"timeout"
        assert two.receive().code == "UNBLOCKED"
        assert one.call("PING") == two.call("PING") == "PONG"


def test_a_second_ask_takes_the_place_over(server: ServerProcess) -> None:
    take(server, "again", "a")
    first = ask(server, "again", "b", *WAIT, "REQUEST", "again-1")
    wait_for_queue(server, "again", "b")
    other = ask(server, "again", "c", *WAIT)
    wait_for_queue(server, "again", "b", "c")
    second = ask(server, "again", "b", *WAIT, "REQUEST", "again-1")
    assert first.receive().code == "UNBLOCKED"
    assert queue(server, "again") == [b"b", b"c"]
    release(server, "again", "a")
    assert answer(second)["status"] == b"granted"
    assert not answered([other])


def test_a_client_that_comes_back_with_its_request_has_its_place(server: ServerProcess) -> None:
    take(server, "back", "a")
    ask(server, "back", "b", *WAIT, "REQUEST", "back-1").close()
    wait_for_queue(server, "back", "b")
    late = ask(server, "back", "c", *WAIT)
    wait_for_queue(server, "back", "b", "c")
    assert release(server, "back", "a") == b"b"
    granted = answer(ask(server, "back", "b", *WAIT, "REQUEST", "back-1"))
    assert granted["status"] == b"granted"
    assert not answered([late])


def test_a_hold_ends_with_its_connection(server: ServerProcess) -> None:
    holder = take(server, "close", "a", "TTL", 0, *ONCLOSE)
    kept = take(server, "close-kept", "a", "TTL", 0, "ONCLOSE", "KEEP")
    waiter = ask(server, "close", "b", *WAIT)
    wait_for_queue(server, "close", "b")
    holder.close()
    kept.close()
    assert answer(waiter)["status"] == b"granted"
    assert owner(server, "close-kept") == b"a"


def test_a_thousand_are_woken_one_by_one(own_server: ServerProcess) -> None:
    server, waiters = own_server, []
    take(server, "many", "w-1")
    for number in range(1_000):
        waiters.append(ask(server, "many", f"w{number}", *WAIT))
        if number % 100 == 99:
            eventually(lambda: count(server, "many") == len(waiters))
    order = {}
    with server.wire() as wire:
        previous = "w-1"
        for _ in range(len(waiters)):
            promoted = wire.map("LOCK.RELEASE", "many", previous)["promoted"]
            previous = promoted.decode()
            waiter = waiters[int(previous[1:])]
            order[previous] = answer(waiter)["version"]
            waiter.close()
            if len(order) % 50 == 0:
                left = [each for number, each in enumerate(waiters) if f"w{number}" not in order]
                assert answered(left) == []
    assert len(order) == len(waiters)
    assert list(order.values()) == sorted(order.values())
    for waiter in waiters:
        waiter.close()


def test_a_shutdown_turns_those_who_wait_away(own_server: ServerProcess) -> None:
    server = own_server
    take(server, "a", "me")
    waiters = [ask(server, "a", f"w{number}", *WAIT) for number in range(20)]
    eventually(lambda: count(server, "a") == len(waiters))
    began = now_ms()
    assert server.terminate() == 0
    assert now_ms() - began < 5_000
    for waiter in waiters:
        [refusal] = waiter.receive_until_closed()
        assert refusal.startswith("UNBLOCKED this node is shutting down")


def test_a_restart_serves_who_comes_back_and_nobody_else(own_server: ServerProcess) -> None:
    server = own_server
    take(server, "a", "me", "TTL", 0)
    take(server, "tied", "me", "TTL", 0, *ONCLOSE)
    ask(server, "a", "gone", *WAIT)
    wait_for_queue(server, "a", "gone")
    ask(server, "a", "back", *WAIT, "REQUEST", "r1")
    wait_for_queue(server, "a", "gone", "back")
    server.restart()
    wait_for_queue(server, "a", "back")
    assert owner(server, "tied") is None
    assert release(server, "a", "me") == b"back"
    again = answer(ask(server, "a", "back", *WAIT, "REQUEST", "r1"))
    assert again["status"] == b"granted"


# --- three nodes ---------------------------------------------------------------------------------


def test_every_node_serves_its_own_clients(cluster: Cluster) -> None:
    leader = cluster.leader()
    take(leader, "each", "holder")
    waiting: list[tuple[str, Wire]] = []
    for node in [*cluster, *cluster]:
        name = f"{node.id}-{len(waiting)}"
        waiting.append((name, ask(node, "each", name, *WAIT)))
        wait_for_queue(leader, "each", *(each for each, _ in waiting))
    holder, versions = "holder", []
    for name, wire in waiting:
        for node in cluster:
            eventually(lambda node=node: owner(node, "each"), "a leader")
        assert release(cluster["n2"], "each", holder) == name.encode()
        versions.append(answer(wire)["version"])
        holder = name
    assert versions == sorted(set(versions))


def test_places_survive_the_leader(cluster: Cluster) -> None:
    """Those on other nodes without doing anything; those of the leader itself by asking again."""
    leader, (one, two) = cluster.leader(), cluster.followers()
    take(one, "killed", "holder", "TTL", 0)
    first = ask(leader, "killed", "first", *WAIT, "REQUEST", "killed-1")
    wait_for_queue(one, "killed", "first")
    second = ask(one, "killed", "second", *WAIT)
    wait_for_queue(one, "killed", "first", "second")
    third = ask(two, "killed", "third", *WAIT)
    wait_for_queue(one, "killed", "first", "second", "third")
    leader.kill9()
    with pytest.raises(Closed):
        first.receive()
    new = cluster.leader()
    again = ask(new, "killed", "first", *WAIT, "REQUEST", "killed-1")
    wait_for_queue(new, "killed", "first", "second", "third")
    versions = []
    for holder, wire in (("holder", again), ("first", second), ("second", third)):
        release(new, "killed", holder)
        granted = answer(wire)
        assert granted["status"] == b"granted"
        versions.append(granted["version"])
    assert versions == sorted(set(versions))


def test_a_grant_that_was_made_while_its_client_was_away_is_there(cluster: Cluster) -> None:
    leader, (one, two) = cluster.leader(), cluster.followers()
    take(one, "away", "holder", "TTL", 0)
    ask(leader, "away", "first", *WAIT, "REQUEST", "away-1")
    wait_for_queue(one, "away", "first")
    leader.kill9()
    new = cluster.leader()
    assert release(two, "away", "holder") == b"first"
    granted = answer(ask(one if new is two else two, "away", "first", *WAIT, "REQUEST", "away-1"))
    assert granted["status"] == b"granted"
    assert info(new, "away")["version"] == granted["version"]


def test_what_was_attached_to_a_killed_node_ends(cluster: Cluster) -> None:
    leader, (victim, other) = cluster.leader(), cluster.followers()
    take(victim, "node", "tied", "TTL", 0, *ONCLOSE)
    ask(victim, "node", "gone", *WAIT)
    wait_for_queue(leader, "node", "gone")
    waiter = ask(other, "node", "next", *WAIT)
    wait_for_queue(leader, "node", "gone", "next")
    victim.kill9()
    began = now_ms()
    assert answer(waiter)["status"] == b"granted"
    assert limits.NODE_GONE_MS - 500 <= now_ms() - began <= GONE_MS_MAX
    assert queue(leader, "node") == []


def test_what_was_attached_to_a_killed_leader_ends(cluster: Cluster) -> None:
    leader, (other, _) = cluster.leader(), cluster.followers()
    take(leader, "head", "tied", "TTL", 0, *ONCLOSE)
    waiter = ask(other, "head", "next", *WAIT)
    wait_for_queue(other, "head", "next")
    leader.kill9()
    began = now_ms()
    assert answer(waiter)["status"] == b"granted"
    assert now_ms() - began <= GONE_MS_MAX


def test_a_node_that_starts_again_at_once_has_none_of_its_former_clients(cluster: Cluster) -> None:
    leader, (victim, _) = cluster.leader(), cluster.followers()
    take(victim, "life", "former", "TTL", 0, *ONCLOSE)
    victim.kill9()
    cluster.start_nodes(victim)
    present = ask(victim, "life", "present", "TTL", 0, *WAIT, *ONCLOSE)
    assert answer(present)["status"] == b"granted"
    assert owner(leader, "life") == b"present"
    cluster.wait_until_whole()
    assert present.call("PING") == "PONG"


def test_a_client_that_leaves_a_follower_gives_up_its_place(cluster: Cluster) -> None:
    leader, (one, two) = cluster.leader(), cluster.followers()
    holder = take(one, "leave", "tied", "TTL", 0, *ONCLOSE)
    leaver = ask(one, "leave", "gone", *WAIT)
    wait_for_queue(leader, "leave", "gone")
    waiter = ask(two, "leave", "next", *WAIT)
    wait_for_queue(leader, "leave", "gone", "next")
    leaver.close()
    wait_for_queue(leader, "leave", "next")
    holder.close()
    assert answer(waiter)["status"] == b"granted"


def test_leaving_without_a_leader_is_told_to_the_next(cluster: Cluster) -> None:
    leader, (one, two) = cluster.leader(), cluster.followers()
    holder = take(one, "lost", "tied", "TTL", 0, *ONCLOSE)
    leader.kill9()
    two.pause()
    holder.close()
    two.resume()
    new = cluster.leader()
    eventually(lambda: owner(new, "lost") is None, "the hold ends")


def test_a_node_that_is_cut_off_closes_what_it_cannot_answer_for(make_cluster: MakeCluster) -> None:
    """The leader ends these holds after so long: their owners must not go on in good faith."""
    cluster = make_cluster().start()
    leader, (one, two) = cluster.leader(), cluster.followers()
    tied = take(one, "cut", "tied", "TTL", 0, *ONCLOSE)
    kept = take(one, "cut-kept", "kept", "TTL", 0)
    leader.pause()
    two.pause()
    began = now_ms()
    with pytest.raises(Closed):
        tied.receive()
    assert now_ms() - began <= GONE_MS_MAX
    assert kept.call("PING") == "PONG"
    leader.resume()
    two.resume()


def test_a_stopped_leader_sends_its_clients_on(cluster: Cluster) -> None:
    """Who asks another node with the same REQUEST keeps the place; who does not has left."""
    leader, (one, two) = cluster.leader(), cluster.followers()
    take(one, "stop", "holder", "TTL", 0)
    first = ask(leader, "stop", "first", *WAIT, "REQUEST", "stop-1")
    wait_for_queue(one, "stop", "first")
    gone = ask(leader, "stop", "gone", *WAIT)
    wait_for_queue(one, "stop", "first", "gone")
    last = ask(two, "stop", "last", *WAIT)
    wait_for_queue(one, "stop", "first", "gone", "last")
    began = now_ms()
    leader.signal(signal.SIGTERM)
    for wire in (first, gone):
        [refusal] = wire.receive_until_closed()
        assert refusal.code == "UNBLOCKED"
    assert leader.wait() == 0
    assert now_ms() - began < 5_000
    wait_for_queue(one, "stop", "first", "last")
    assert now_ms() - began < limits.NODE_GONE_MS, "it has said so itself"
    again = ask(one, "stop", "first", *WAIT, "REQUEST", "stop-1")
    assert release(two, "stop", "holder") == b"first"
    assert answer(again)["status"] == b"granted"
    assert release(two, "stop", "first") == b"last"
    assert answer(last)["status"] == b"granted"


def test_a_follower_unblocks_its_clients(cluster: Cluster) -> None:
    leader, (one, _) = cluster.leader(), cluster.followers()
    take(leader, "unblock", "holder")
    with one.wire() as wire:
        id = wire.call("CLIENT", "ID")
        wire.send("LOCK.ACQUIRE", "unblock", "b", *WAIT)
        wait_for_queue(leader, "unblock", "b")
        assert one.call("CLIENT", "UNBLOCK", id, "ERROR") == 1
        assert wire.receive().code == "UNBLOCKED"


def leads(node: ClusterNode) -> bool:
    status = node.status()
    return status is not None and status["role"] == "leader"


def test_one_chain_through_hand_overs(cluster: Cluster) -> None:
    """Forty wait on all nodes while the leadership goes round: each is served, once, in order."""
    take(cluster.leader(), "chain", "w-1", "TTL", 0)
    nodes, waiting = list(cluster), []
    for number in range(40):
        name = f"w{number}"
        waiting.append(ask(nodes[number % 3], "chain", name, *WAIT, "TTL", 0))
        eventually(lambda: count(nodes[0], "chain") == len(waiting), "a place in line")
    versions = []
    for number, wire in enumerate(waiting):
        if number % 10 == 5:
            old = cluster.leader()
            nodes[0].call("RAFT.TRANSFER")
            eventually(lambda old=old: not leads(old), "another leader")
            cluster.leader()
        assert release(nodes[number % 3], "chain", f"w{number - 1}") == b"w%d" % number
        versions.append(answer(wire)["version"])
    assert versions == sorted(set(versions))
