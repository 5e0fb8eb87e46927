"""Finding the command that a client names, and the errors for what there is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resplock.errors import CommandError
from resplock.resp.commands import COMMANDS, find, look_up
from tests.resp.real_redis import RealRedis


def error_of(*words: bytes) -> str:
    with pytest.raises(CommandError) as caught:
        find(list(words))
    return f"{caught.value.code} {caught.value.text}"


def test_every_command_is_found_by_its_name_in_any_case() -> None:
    for name, top in COMMANDS.items():
        for command in top.walk():
            if command.subcommands and not command.bare:
                continue
            words = [word.encode() for word in command.words]
            assert words[0] == name
            for spelled in (words, [w.lower() for w in words], [w.title() for w in words]):
                assert find([*spelled, b"more"][: 2 if len(words) == 2 else 1]) is command


def test_a_bare_container_is_a_command() -> None:
    assert find([b"COMMAND"]).name == "COMMAND"
    assert find([b"command", b"Count"]).name == "COMMAND COUNT"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ([b"NOPE"], "ERR unknown command 'NOPE', with args beginning with: "),
        (
            [b"no\r\npe", b"\0"],
            r"ERR unknown command 'no\r\npe', with args beginning with: '\x00' ",
        ),
        ([b""], "ERR unknown command '', with args beginning with: "),
        ([b"CLIENT"], "ERR wrong number of arguments for 'client' command"),
        ([b"CONFIG"], "ERR wrong number of arguments for 'config' command"),
        ([b"client", b"nope", b"x"], "ERR unknown subcommand 'nope'. Try CLIENT HELP."),
        ([b"COMMAND", b"nope"], "ERR unknown subcommand 'nope'. Try COMMAND HELP."),
        ([b"CLIENT|ID"], "ERR unknown command 'CLIENT|ID', with args beginning with: "),
    ],
)
def test_errors(words: list[bytes], error: str) -> None:
    assert error_of(*words) == error


@pytest.mark.parametrize(
    "words",
    [
        ["NOPE"],
        ["nope", "a", "b c"],
        ["n" * 200, "x" * 200, "y" * 200],
        ["nope", *(["word"] * 100)],
        ["nope", "x" * 125, "yy", "z"],
        ["nope", "x" * 124, "yy", "z"],
        ["CLIENT"],
        ["client", "nope"],
        ["client", "n" * 200],
        ["config", "nope", "x"],
        ["command", "nope"],
    ],
)
def test_errors_are_those_of_redis(real_redis: RealRedis, words: list[str]) -> None:
    assert error_of(*(word.encode() for word in words)) == str(real_redis.ask(*words))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=20))
def test_errors_are_printable_and_bounded(words: list[bytes]) -> None:
    words[0] = b"no such command" + words[0]
    error = error_of(*words)
    assert error.isascii()
    assert error.isprintable()
    assert len(error) < 2048


def test_look_up_takes_the_names_that_command_shows() -> None:
    for top in COMMANDS.values():
        for command in top.walk():
            assert look_up(command.full_name.encode()) is command
    for name in (b"nope", b"client|nope", b"ping|pong", b"", b"|", b"client|"):
        assert look_up(name) is None
