"""Dialing a member, again and again.

I/O layer: one task for each member, which sleeps while its session lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from resplock import limits
from resplock.addresses import split_host
from resplock.raft.entries import Member
from resplock.server.clocks import now_ms
from resplock.server.peers import greeting
from resplock.server.peers.greeting import Hello, Kind, Refused, Unreachable
from resplock.server.peers.links import Link, Session
from resplock.server.peers.stream import Stream, dial
from resplock.server.peers.tasks import report

if TYPE_CHECKING:
    from resplock.server.peers.peers import Peers


class Dialer:
    """Keeps a session with one member."""

    def __init__(self, peers: Peers, member: Member) -> None:
        self.member = member
        self._peers = peers
        self._wake = asyncio.Event()
        self._unreached_since_ms = now_ms()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(report)

    def stop(self) -> None:
        """Dial no more. A session that is there stays."""
        self._task.cancel()

    def wake(self) -> None:
        """The member is there: dial now."""
        self._wake.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            failures += 1
            try:
                session = await self._connect()
            except Unreachable as error:
                self._note(error)
            else:
                begun_ms = now_ms()
                await session.ended.wait()
                self._unreached_since_ms = now_ms()
                if self._unreached_since_ms - begun_ms >= limits.PEER_SETTLED_MS:
                    failures = 0
            await self._pause(backoff_ms(failures, self._peers.rng.uniform))

    async def _pause(self, wait_ms: float) -> None:
        """Wait, unless the member has shown itself since the last attempt was begun."""
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _connect(self) -> Session:
        """One attempt. Raises Unreachable."""
        number = self._peers.next_session()
        dialing = [
            asyncio.ensure_future(dial_member(self._peers, self.member, kind, number))
            for kind in (Kind.RAFT, Kind.COMMANDS)
        ]
        try:
            found = await asyncio.gather(*dialing)
            return self._attach(self._peers.link(self.member.id), number, found)
        except BaseException:
            for attempt in dialing:
                attempt.cancel()
            for outcome in await asyncio.gather(*dialing, return_exceptions=True):
                if isinstance(outcome, tuple):
                    outcome[0].abort("the other connection failed")
            raise

    def _attach(self, link: Link, number: int, found: list[tuple[Stream, Hello]]) -> Session:
        (raft, theirs), (commands, also_theirs) = found
        broken = raft.broken or commands.broken
        if broken or also_theirs.incarnation != theirs.incarnation:
            raise Unreachable(broken or "it was restarted")
        if link.dialed is not None:
            link.dialed.end("dialed anew")
        session = Session(link, theirs, number, dialed=True)
        link.dialed = session
        session.attach(Kind.RAFT, raft)
        session.attach(Kind.COMMANDS, commands)
        return session

    def _note(self, error: Unreachable) -> None:
        """Remember why; log a refusal at once, and silence only when it lasts."""
        self._peers.link(self.member.id).last_error = str(error)
        lasted_ms = now_ms() - self._unreached_since_ms
        if isinstance(error, Refused):
            if error.refusal.is_removal:
                self._peers.events.removed(error.refusal.text)
            if error.refusal.code == greeting.RefusalCode.NOT_READY:
                return  # it is about to be
        elif lasted_ms < limits.PEER_SETTLED_MS:
            return
        self._peers.complaints.complain(
            "peer refuses this node" if isinstance(error, Refused) else "peer cannot be reached",
            self.member.id,
            address=self.member.peer_address,
            error=str(error),
        )


async def dial_member(
    peers: Peers, member: Member, kind: Kind, session: int = 0
) -> tuple[Stream, Hello]:
    """Connect to a member, greet, and judge its answer; see `dial`. Raises Unreachable."""
    try:
        host, port = split_host(member.peer_address)
    except ValueError as error:
        raise Unreachable(f"{member.peer_address!r} is no address") from error
    stream, answer = await dial(
        host, port, greeting.hello(peers.identity, kind, member.id, session)
    )
    refusal = peers.judge(answer)
    if refusal is not None:
        stream.refuse(refusal)
        raise Unreachable(refusal.text)
    if answer.server.id != member.id:
        stream.abort("it is somebody else")
        raise Unreachable(f"{answer.server.id} answered instead of {member.id}")
    return stream, answer


def backoff_ms(failures: int, uniform: Callable[[float, float], float]) -> float:
    """How long to wait before the next attempt: doubled with each failure in a row, jittered."""
    whole = limits.PEER_BACKOFF_MS_MIN * 2.0 ** min(failures, 16)
    return min(whole, limits.PEER_BACKOFF_MS_MAX) * uniform(0.5, 1.0)
