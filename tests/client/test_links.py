"""Where commands go: the client's own node, the leader that -MOVED names, or the next of several."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError, MovedError

from resplock.client.links import link_of
from resplock.client.pauses import AdvisedPauses, TroublePauses
from resplock.client.trouble import Unsent, Verdict, judge
from tests.client.fakes import CUT_OFF, IN_DOUBT, NO_LEADER, NOT_HELD, NoChance, held, refusal

MOVED = MovedError("1234 10.0.0.2:7380")


def client(host: str = "10.0.0.1") -> Any:
    """It connects to nowhere: only its pool is looked at."""
    return redis.Redis(host=host, port=7379, password="secret", db=3, socket_timeout=1.5)


class TestLinks:
    def test_a_plain_client_is_used_as_it_is(self) -> None:
        one = client()
        assert link_of(one).pool() is one.connection_pool
        assert link_of(one) is link_of(one), "all locks of a client learn together"

    def test_moved_is_followed_with_the_same_settings(self) -> None:
        one = client()
        link = link_of(one)
        link.failed(MOVED)
        settings = link.pool().connection_kwargs
        assert (settings["host"], settings["port"]) == ("10.0.0.2", 7380)
        assert (settings["password"], settings["db"], settings["socket_timeout"]) == (
            "secret",
            3,
            1.5,
        )

    def test_a_leader_that_fails_is_left_for_the_own_node(self) -> None:
        one = client()
        link = link_of(one)
        link.failed(MOVED)
        link.failed(CUT_OFF)
        assert link.pool() is one.connection_pool

    def test_of_several_each_is_asked_in_turn(self) -> None:
        nodes = [client(f"10.0.0.{number}") for number in (1, 2, 3)]
        link = link_of(nodes)
        asked = []
        for _ in range(4):
            asked.append(link.pool())
            link.failed(CUT_OFF)
        assert asked == [nodes[place].connection_pool for place in (0, 1, 2, 0)]

    def test_of_several_the_one_that_answers_is_kept(self) -> None:
        nodes = [client(f"10.0.0.{number}") for number in (1, 2)]
        link = link_of(nodes)
        link.failed(CUT_OFF)
        assert {id(link.pool()) for _ in range(3)} == {id(nodes[1].connection_pool)}


class TestJudge:
    @pytest.mark.parametrize(
        ("error", "verdict"),
        [
            (CUT_OFF, Verdict.IN_DOUBT),
            (IN_DOUBT, Verdict.IN_DOUBT),
            (TimeoutError(), Verdict.IN_DOUBT),
            (redis.TimeoutError(), Verdict.IN_DOUBT),
            (Unsent(CUT_OFF), Verdict.NOTHING_DONE),
            (NO_LEADER, Verdict.NOTHING_DONE),
            (MOVED, Verdict.NOTHING_DONE),
            (redis.BusyLoadingError("starting"), Verdict.NOTHING_DONE),
            (refusal("BUSY too many proposals; nothing was done"), Verdict.NOTHING_DONE),
            (NOT_HELD, Verdict.NOT_YOURS),
            (refusal("STALE the lock is held with version 3"), Verdict.NOT_YOURS),
            (refusal("QUEUEFULL the queue is full"), Verdict.QUEUE_FULL),
            (refusal("UNBLOCKED by an operator"), Verdict.UNBLOCKED),
            (refusal("DEADLOCK a waits for b"), Verdict.DEADLOCK),
            (refusal("ERR unknown command"), Verdict.FINAL),
            (redis.AuthenticationError("wrong"), Verdict.FINAL),
            (Unsent(redis.AuthenticationError("wrong")), Verdict.FINAL),
        ],
    )
    def test_what_is_known(self, error: Exception, verdict: Verdict) -> None:
        assert judge(error) is verdict

    def test_every_code_of_the_reference_is_known(self) -> None:
        """A code that nobody thought of would be raised at once, and lose what may be retried."""
        from resplock.resp.failures import ERRORS

        retried = {"INDOUBT", "CLUSTERDOWN", "BUSY", "LOADING", "MOVED", "NOQUORUM"}
        about_the_hold = {"NOTHELD", "NOTOWNER", "STALE"}
        about_the_wait = {"QUEUEFULL", "DEADLOCK", "UNBLOCKED"}
        for code in ERRORS:
            is_final = judge(refusal(f"{code} text")) is Verdict.FINAL
            assert is_final == (code not in retried | about_the_hold | about_the_wait), code


class TestPauses:
    def test_trouble_ends_with_patience(self) -> None:
        pauses = TroublePauses(NoChance(), patience_s=1.0)
        assert pauses.next_s(100.0) == 0.02
        assert pauses.next_s(100.5) == 0.04
        assert pauses.next_s(100.95) == float("inf"), "the pause would end after it"

    def test_a_server_that_works_ends_the_trouble(self) -> None:
        pauses = TroublePauses(NoChance(), patience_s=1.0)
        pauses.next_s(100.0)
        pauses.reset()
        assert pauses.next_s(200.0) == 0.02

    def test_jitter_is_both_ways(self) -> None:
        class Chance(NoChance):
            values = iter([0.0, 1.0, 0.5])

            def random(self) -> float:
                return next(self.values)

        pauses = AdvisedPauses(Chance())
        refused = held(backoff_jitter=0.2, retry_after_ms=100, backoff_initial_ms=100)
        refused["backoff_multiplier"] = 1.0
        assert [round(pauses.next_s(refused), 3) for _ in range(3)] == [0.08, 0.12, 0.1]


def test_an_unsent_command_shows_its_cause() -> None:
    assert str(Unsent(ConnectionError("refused"))) == "refused"
