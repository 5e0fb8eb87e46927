"""resplock run: a command that runs while a lock is held.

The main thread waits for the command and passes signals on; the client's threads renew the lock, and
one of them ends the command when the lock is lost. On Linux the command is also told to end when this
process is killed, for then nobody renews the lock any more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from resplock.cli import options
from resplock.cli.children import end_with_parent

if TYPE_CHECKING:
    from resplock.client import Lock, Lost

_PASSED_ON = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends these to the command as well: it is in this process's group."""
_PATIENCE_S = 5.0
"""How long to go on without a server or a leader before that is an error."""


_EXIT_STATUSES = """\b
Exit status:
  that of the command, or 128 + N when signal N ended it
  123  the lock was lost, and the command was ended
  124  the lock was not had within --wait
  125  no server answered, or it refused
  126  the command cannot be run
  127  the command was not found
"""


class Exit(IntEnum):
    """Exit statuses of our own, from those that no command should use. See --help."""

    LOST = 123
    NOT_IN_TIME = 124
    NO_LOCK = 125
    CANNOT_RUN = 126
    NOT_FOUND = 127


@click.command(
    context_settings={**options.CONTEXT, "allow_interspersed_args": False},
    options_metavar="--lock NAME [OPTIONS]",
    epilog=_EXIT_STATUSES,
)
@click.option(
    "--url",
    "urls",
    default=["redis://127.0.0.1:7379"],
    show_default=True,
    multiple=True,
    envvar="RESPLOCK_URL",
    metavar="URL",
    help="A node, as redis://[[user]:password@]host:port[/db]. Give it several times, for several "
    "nodes of the cluster: any one of them will do. RESPLOCK_URL has them between spaces.",
)
@click.option("--lock", "name", required=True, metavar="NAME", help="The lock.")
@click.option(
    "--ttl",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0, 86_400, min_open=True),
    metavar="SECONDS",
    help="How long the lock stays when this process is gone; while it is there, it renews the lock.",
)
@click.option(
    "--wait",
    "wait_s",
    default=None,
    show_default="for ever",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="How long to wait for the lock, in the queue; 0 only tries.",
)
@click.option(
    "--grace",
    "grace_s",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="When the lock is lost: from SIGTERM to SIGKILL.",
)
@click.argument(
    "command",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    metavar="-- COMMAND [ARGUMENT]...",
)
def run(
    urls: Sequence[str],
    name: str,
    ttl: float,
    wait_s: float | None,
    grace_s: float,
    command: Sequence[str],
) -> None:
    """Run a command while holding a lock.

    For example, a job that shall run on one machine only:

        resplock run --lock nightly --wait 0 -- /opt/jobs/nightly --all

    The command has RESPLOCK_VERSION in its environment, the fencing version of this hold: let it send
    that along with its writes, and have whatever takes them refuse a version lower than it has seen.
    RESPLOCK_LOCK and RESPLOCK_OWNER are there, too.

    The lock is renewed until the command ends, and then given back. When it is lost (taken away by
    LOCK.BREAK, or not renewed within its TTL, because no server answers or this machine was suspended)
    the command is sent SIGTERM, and after --grace seconds SIGKILL. Signals are passed on to it.
    """
    lock = _make_lock(urls, name, ttl, wait_s)
    runner = Runner(lock, command, grace_s)
    sys.exit(runner.run())


def _make_lock(urls: Sequence[str], name: str, ttl: float, wait_s: float | None) -> Lock:
    import redis  # this takes time and memory, which other commands do not have to spend
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    from resplock.client import Lock

    once = Retry(NoBackoff(), 0)
    try:
        clients: list[Any] = [redis.Redis.from_url(url, retry=once) for url in urls]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--url") from error
    return Lock(
        clients,
        name,
        ttl,
        blocking=wait_s != 0,
        blocking_timeout=wait_s,
        patience=_PATIENCE_S,
        thread_local=False,
    )


class Signalled(BaseException):
    """A signal came before there was a command to pass it on to."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Runner:
    """One run: the lock, the command, and the signals."""

    def __init__(self, lock: Lock, command: Sequence[str], grace_s: float) -> None:
        self._lock = lock
        self._command = command
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._has_ended = threading.Event()
        self._is_told = False

    def run(self) -> int:
        """The exit status."""
        from redis import RedisError

        try:
            with self._signals():
                if not self._lock.acquire():
                    _say(f"the lock {self._name} was not had in time{self._holder()}")
                    return Exit.NOT_IN_TIME
                return self._run_and_release()
        except Signalled as signalled:
            return 128 + signalled.number
        except (RedisError, OSError) as error:
            _say(f"cannot take the lock {self._name}: {error}")
            return Exit.NO_LOCK

    @property
    def _name(self) -> str:
        return repr(self._lock.name)

    def _holder(self) -> str:
        """Who is in the way, for the message."""
        from redis import RedisError

        try:
            info = self._lock.info()
        except (RedisError, OSError):
            return ""
        owner = info and info.get("owner")
        return f": it is held by {owner.decode(errors='replace')!r}" if owner else ""

    # --- with the lock ---------------------------------------------------------------------------

    def _run_and_release(self) -> int:
        try:
            status = self._run_command()
        except FileNotFoundError:
            _say(f"{self._command[0]}: not found")
            status = Exit.NOT_FOUND
        except OSError as error:
            _say(f"{self._command[0]}: {error.strerror}")
            status = Exit.CANNOT_RUN
        finally:
            lost = self._release()
        return Exit.LOST if lost else status

    def _run_command(self) -> int:
        self._lock.on_lost(self._end)
        process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._variables()},
            preexec_fn=end_with_parent,  # noqa: PLW1509 - one call into libc, which takes no lock
        )
        self._process = process
        if self._lock.lost:
            self._end(self._lock.lost)
        status = process.wait()
        self._has_ended.set()
        return 128 - status if status < 0 else status

    def _variables(self) -> dict[str, str]:
        token = self._lock.token or b""
        return {
            "RESPLOCK_VERSION": str(self._lock.version),
            "RESPLOCK_LOCK": str(self._lock.name),
            "RESPLOCK_OWNER": token.decode(),
        }

    def _release(self) -> bool:
        """Whether the lock was lost."""
        from redis import RedisError
        from redis.exceptions import LockNotOwnedError

        try:
            self._lock.release()
        except LockNotOwnedError as error:
            if not self._is_told:
                _say(f"the lock {self._name} was lost: {error}")
            return True
        except (RedisError, OSError) as error:
            _say(f"the lock {self._name} was not given back, and ends with its TTL: {error}")
        return False

    def _end(self, lost: Lost) -> None:
        """The lock is lost: end the command. In a thread of the client."""
        process = self._process
        if process is None:
            return  # it is about to start, and looks once more then
        self._is_told = True
        _say(f"the lock {self._name} was lost, ending the command: {lost.reason}")
        process.terminate()
        if not self._has_ended.wait(self._grace_s):
            process.kill()

    # --- signals ---------------------------------------------------------------------------------

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """From now on signals are passed on; before there is a command, they end the waiting."""
        before = {number: signal.signal(number, self._pass_on) for number in _PASSED_ON}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        if self._process is None:
            raise Signalled(number)
        if number in _OF_THE_TERMINAL and _is_in_foreground():
            return
        self._process.send_signal(number)


def _is_in_foreground() -> bool:
    """Whether a terminal's keys reach this process, and the command with it."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _say(text: str) -> None:
    click.echo(f"resplock: {text}", err=True)
