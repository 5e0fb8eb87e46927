"""Encoding replies: Python values, outcomes and answers into RESP2 and RESP3.

Pure. Three encoders, which the caller may also reach through the tables below, by type:

    encode(value, protocol)             a Python value, for the commands that the node answers
    encode_outcome(outcome, protocol)   what the lock table answered to an operation
    encode_answer(answer, protocol)     what the lock table answered to a query

Maps of outcomes and answers are compiled from their declarations in `shapes.py`: one template for
each protocol, filled by `%` with what an `attrgetter` reads. That is faster than joining pieces,
and Granted, the most frequent reply, is little more than one C call.

Error text never holds CR, LF or NUL, whatever a client put into it: it cannot end the line.
Source: the Redis serialization protocol specification, https://redis.io/docs/reference/protocol-spec
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import chain, product
from operator import attrgetter, ne
from typing import Any, Final, TypeAlias

import msgspec

from resplock import operations as ops
from resplock.errors import CommandError
from resplock.resp import shapes
from resplock.resp.quoting import quote
from resplock.resp.shapes import Field, Kind, Reply
from resplock.types import key_of

ERROR_BYTES_MAX: Final = 1024
"""The longest error reply, its code included."""
INTEGERS_PREBUILT: Final = 1024
"""The replies :0, :1, ... that are built once."""
DEADLOCK_STEPS_SHOWN_MAX: Final = 8
"""How much of a cycle of owners an error shows."""
_STEP_BYTES_MAX: Final = 24
HUNDREDTHS_PREBUILT: Final = 512
"""The doubles 0.0, 0.01, ... that are built once."""

Encoder: TypeAlias = Callable[[Any], bytes]
Encoders: TypeAlias = dict[type[Any], Encoder]
PipelineEncoder: TypeAlias = Callable[[Sequence[Any]], bytes]
PipelineEncoders: TypeAlias = dict[type[Any], PipelineEncoder]


# --- values that Python has no type for ----------------------------------------------------------


class Simple(msgspec.Struct, frozen=True):
    """A simple string, such as OK."""

    text: str


class Failure(msgspec.Struct, frozen=True):
    """An error reply."""

    code: str
    text: str


class Verbatim(msgspec.Struct, frozen=True):
    """Text for people, such as INFO's. A bulk string in RESP2."""

    text: str


class Members(msgspec.Struct, frozen=True):
    """A set in the order in which it is given, also of what Python cannot hash. An array in RESP2."""

    items: tuple[Any, ...]


class Push(msgspec.Struct, frozen=True):
    """A message that is not a reply, such as one of a subscription. An array in RESP2."""

    items: tuple[Any, ...]


class Lasting(msgspec.Struct, frozen=True, eq=False):
    """A value that never changes and is there for good: encoded once, whatever its size.

    The bytes are kept for ever, so never make one on behalf of a client.
    """

    value: Any


# --- Python values -------------------------------------------------------------------------------


def encode(value: object, protocol: int) -> bytes:
    """A Python value as a reply of RESP `protocol` (2 or 3).

    None, bool, int (64 bits), float, bytes and str (bulk strings), list and tuple, dict, set and
    frozenset, and the types above.
    """
    return VALUE_ENCODERS[protocol][type(value)](value)


def encode_error(error: CommandError) -> bytes:
    """A CommandError as an error reply."""
    return encode_failure(error.code, error.text)


def encode_failure(code: str, text: str) -> bytes:
    """An error reply: one line, at most ERROR_BYTES_MAX bytes."""
    line = f"{code} {text}".encode("utf-8", "replace")[:ERROR_BYTES_MAX]
    return b"-%b\r\n" % line.translate(_LINE_SAFE)


_LINE_SAFE = bytes.maketrans(b"\r\n\0", b"   ")


def _simple(value: Simple) -> bytes:
    return b"+%b\r\n" % value.text.encode().translate(_LINE_SAFE)


def _failure(value: Failure) -> bytes:
    return encode_failure(value.code, value.text)


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def _text(value: str) -> bytes:
    return _bulk(value.encode())


def _bulk_or_text(value: bytes | str) -> bytes:
    return _bulk(value) if type(value) is bytes else _text(str(value))


def _integer(value: int) -> bytes:
    if 0 <= value < INTEGERS_PREBUILT:
        return _INTEGERS[value]
    assert -(2**63) <= value < 2**63, "RESP integers have 64 bits"
    return b":%d\r\n" % value


_INTEGERS = [b":%d\r\n" % number for number in range(INTEGERS_PREBUILT)]


def _decimal(value: float) -> bytes:
    """Shortest digits that read back as the same double; `inf`, `-inf` and `nan` as in Redis."""
    return repr(value).removesuffix(".0").encode()


def _boolean_2(value: bool) -> bytes:
    return _INTEGERS[value]


def _boolean_3(value: bool) -> bytes:
    return b"#t\r\n" if value else b"#f\r\n"


def _double_2(value: float) -> bytes:
    return _bulk(_decimal(value))


def _double_3(value: float) -> bytes:
    return b",%b\r\n" % _decimal(value)


def _verbatim_2(value: Verbatim) -> bytes:
    return _text(value.text)


def _verbatim_3(value: Verbatim) -> bytes:
    text = value.text.encode()
    return b"=%d\r\ntxt:%b\r\n" % (len(text) + 4, text)


def _value_encoders(protocol: int) -> Encoders:
    """How to encode each type of value."""
    encoders: Encoders = {}
    in_three = protocol == 3

    def each(values: Iterable[Any]) -> list[bytes]:
        return [encoders[type(value)](value) for value in values]

    def array(values: list[Any] | tuple[Any, ...]) -> bytes:
        return b"*%d\r\n%b" % (len(values), b"".join(each(values)))

    @cache
    def lasting(value: Lasting) -> bytes:
        return encoders[type(value.value)](value.value)

    def items(value: Members | Push, mark: bytes) -> bytes:
        return b"%b%d\r\n%b" % (mark, len(value.items), b"".join(each(value.items)))

    def mapping(value: dict[Any, Any]) -> bytes:
        flat = each(part for pair in value.items() for part in pair)
        head = b"%%%d\r\n" % len(value) if in_three else b"*%d\r\n" % len(flat)
        return head + b"".join(flat)

    def unordered(value: set[Any] | frozenset[Any]) -> bytes:
        # A set has no order of its own: sorted, so that the same reply is always the same bytes.
        return b"%b%d\r\n%b" % (set_mark, len(value), b"".join(sorted(each(value))))

    set_mark, push_mark = (b"~", b">") if in_three else (b"*", b"*")
    encoders |= {
        type(None): lambda _: NIL[protocol],
        bool: _boolean_3 if in_three else _boolean_2,
        int: _integer,
        float: _double_3 if in_three else _double_2,
        bytes: _bulk,
        str: _text,
        Simple: _simple,
        Failure: _failure,
        Verbatim: _verbatim_3 if in_three else _verbatim_2,
        list: array,
        tuple: array,
        dict: mapping,
        set: unordered,
        frozenset: unordered,
        Members: lambda value: items(value, set_mark),
        Push: lambda value: items(value, push_mark),
        Lasting: lasting,
    }
    return encoders


NIL: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
NO_ARRAY: Final = {2: b"*-1\r\n", 3: b"_\r\n"}
VALUE_ENCODERS: Final[dict[int, Encoders]] = {
    protocol: _value_encoders(protocol) for protocol in (2, 3)
}


# --- maps from their declarations ----------------------------------------------------------------


def _hundredths(protocol: int) -> Encoder:
    """An integer in hundredths as a double: 150 is 1.5. Multipliers and jitters are small."""
    double = VALUE_ENCODERS[protocol][float]
    prebuilt = [double(hundredths / 100) for hundredths in range(HUNDREDTHS_PREBUILT)]

    def encode_hundredths(value: int) -> bytes:
        if 0 <= value < HUNDREDTHS_PREBUILT:
            return prebuilt[value]
        return double(value / 100)

    return encode_hundredths


def _convert(field: Field, protocol: int) -> Encoder | None:
    """What makes a field's value into bytes; None for integers, which the template formats."""
    values = VALUE_ENCODERS[protocol]
    if field.name == "key":
        return lambda name: _bulk(key_of(name))
    if field.name == "metadata":
        return lambda pairs: values[dict](dict(pairs))
    if field.name == "client_id":
        return lambda client: values[type(None)](None) if client is None else _client(client)
    if field.fields:
        return _maps_encoder(field.fields, protocol)
    if field.nullable:
        nil = NIL[protocol]
        return lambda value: nil if value is None else _bulk(value)
    match field.kind:
        case Kind.INTEGER:
            return None
        case Kind.DOUBLE:
            return _hundredths(protocol)
        case Kind.BULK:
            return _bulk_or_text
        case _:
            raise AssertionError(f"{field.name}: no conversion to {field.kind}")


def _client(client: ops.ClientId) -> bytes:
    return _text(f"{client.node}:{client.serial}")


def _maps_encoder(fields: tuple[Field, ...], protocol: int) -> Encoder:
    """The encoder of an array of maps."""
    encode_map = _map_encoder(fields, protocol)
    return lambda items: b"*%d\r\n%b" % (len(items), b"".join(map(encode_map, items)))


def _map_template(fields: tuple[Field, ...], protocol: int) -> tuple[bytes, list[Field]]:
    """A declared map as a template for `%`, and the fields that vary, for which it has places."""
    value = VALUE_ENCODERS[protocol]
    count = len(fields)
    template = b"%%%d\r\n" % count if protocol == 3 else b"*%d\r\n" % (2 * count)
    template = template.replace(b"%", b"%%")
    varying: list[Field] = []
    for field in fields:
        template += _text(field.name).replace(b"%", b"%%")
        if field.constant is not None:
            template += value[type(field.constant)](field.constant).replace(b"%", b"%%")
            continue
        template += b":%d\r\n" if _convert(field, protocol) is None else b"%b"
        varying.append(field)
    return template, varying


def _map_encoder(fields: tuple[Field, ...], protocol: int) -> Encoder:
    """The encoder of a declared map."""
    template, varying = _map_template(fields, protocol)
    conversions = [
        (place, convert)
        for place, field in enumerate(varying)
        if (convert := _convert(field, protocol)) is not None
    ]
    read = attrgetter(*(field.attribute for field in varying))
    if len(varying) == 1:
        assert not conversions, varying
        return lambda outcome: template % read(outcome)
    if not conversions:
        return lambda outcome: template % read(outcome)

    def encode_map(outcome: Any) -> bytes:
        values = list(read(outcome))
        for place, convert in conversions:
            values[place] = convert(values[place])
        return template % tuple(values)

    return encode_map


def _optional_map_encoder(reply: Reply, protocol: int) -> Encoder:
    """The encoder of a declared map with optional fields: one template for those that are there."""
    assert reply.of is not None
    defaults = {each.name: each.default for each in msgspec.structs.fields(reply.of)}
    optional = [field for field in reply.fields if field.optional]
    absent = tuple(defaults[field.attribute] for field in optional)
    read = attrgetter(*(field.attribute for field in optional))
    encoders: dict[tuple[bool, ...], Encoder] = {}
    for present in product((False, True), repeat=len(optional)):
        left_out = {field for field, there in zip(optional, present, strict=True) if not there}
        fields = tuple(field for field in reply.fields if field not in left_out)
        encoders[present] = _map_encoder(fields, protocol)

    def encode_optional_map(answer: Any) -> bytes:
        return encoders[tuple(map(ne, read(answer), absent))](answer)

    return encode_optional_map


# --- outcomes ------------------------------------------------------------------------------------


def encode_outcome(outcome: ops.Outcome | ops.Unapplied, protocol: int) -> bytes:
    """The reply to the operation that had this outcome."""
    return OUTCOME_ENCODERS[protocol][type(outcome)](outcome)


def _not_held(outcome: ops.NotHeld) -> bytes:
    return encode_failure("NOTHELD", f"nobody holds the lock {quote(key_of(outcome.name))}")


def _not_owner(outcome: ops.NotOwner) -> bytes:
    key, holder = quote(key_of(outcome.name)), quote(outcome.holder)
    text = f"the lock {key} is held by {holder} with version {outcome.version}"
    return encode_failure("NOTOWNER", text)


def _stale(outcome: ops.Stale) -> bytes:
    key = quote(key_of(outcome.name))
    text = f"the lock {key} is held with version {outcome.current}, not {outcome.given}"
    return encode_failure("STALE", text)


def _unblocked(outcome: ops.Unblocked) -> bytes:
    return encode_failure("UNBLOCKED", _WHY_UNBLOCKED[outcome.reason])


def _not_waiting(outcome: ops.NotWaiting) -> bytes:
    text = f"the owner does not wait for the lock {quote(key_of(outcome.name))}"
    return encode_failure("NOTWAITING", text)


def _queue_full(outcome: ops.QueueFull) -> bytes:
    key = quote(key_of(outcome.name))
    return encode_failure("QUEUEFULL", f"{outcome.waiters} wait for the lock {key} already")


def _deadlock(outcome: ops.Deadlock) -> bytes:
    """The cycle from the asker to the asker. Of a long one, its beginning and its end."""
    cycle = outcome.cycle
    left_out = max(len(cycle) - DEADLOCK_STEPS_SHOWN_MAX, 0)
    shown = cycle[: DEADLOCK_STEPS_SHOWN_MAX - 1] + cycle[-1:] if left_out else cycle
    steps = [
        f"waits for {quote(owner, _STEP_BYTES_MAX)} (lock {quote(key_of(name), _STEP_BYTES_MAX)})"
        for name, owner in shown
    ]
    if left_out:
        steps.insert(-1, f"... {left_out} more ...")
    text = "this would close a cycle: the asker " + ", who ".join(steps)
    return encode_failure("DEADLOCK", text)


def _refused(outcome: ops.Refused) -> bytes:
    return encode_failure("ERR", outcome.text)


def _cancelled(outcome: ops.Cancelled) -> bytes:
    return _integer(outcome.count)


def _in_doubt(_outcome: ops.InDoubt) -> bytes:
    return _IN_DOUBT


def _no_leader(_outcome: ops.NoLeader) -> bytes:
    return _NO_LEADER


def _busy(outcome: ops.Busy) -> bytes:
    return encode_failure("BUSY", f"{outcome.what}; nothing was done, try again later")


def _moved(outcome: ops.Moved) -> bytes:
    return encode_failure("MOVED", f"{outcome.slot} {outcome.address}")


def _bulk_reply(protocol: int) -> Encoder:
    nil = NIL[protocol]
    return lambda outcome: nil if outcome.value is None else _bulk(outcome.value)


def _values_reply(protocol: int) -> Encoder:
    values = VALUE_ENCODERS[protocol][tuple]
    return lambda outcome: values(outcome.values)


def _number(outcome: ops.Number) -> bytes:
    return _integer(outcome.value)


def _status(outcome: ops.Status) -> bytes:
    return b"+%b\r\n" % outcome.text.encode()


def _scripted_2(outcome: ops.Scripted) -> bytes:
    return outcome.resp2


def _scripted_3(outcome: ops.Scripted) -> bytes:
    return outcome.resp3 or outcome.resp2


def _wrong_type(_outcome: ops.WrongType) -> bytes:
    return _WRONG_TYPE


def _broken(_outcome: ops.Broken) -> bytes:
    return _INTEGERS[1]


def _done(_outcome: ops.Done) -> bytes:
    return b"+OK\r\n"


def _kept(outcome: ops.Kept) -> bytes:
    if outcome.lost is None:
        return _integer(outcome.renewed)
    keys = b"".join([_bulk(key_of(name)) for name in outcome.lost])
    return b"*%d\r\n%b" % (len(outcome.lost), keys)


_WHY_UNBLOCKED = {
    "unblocked": "client unblocked via CLIENT UNBLOCK",
    "cancelled": "the place was given up by LOCK.CANCEL",
    "replaced": "the same owner asked again and has taken the place over",
    "disconnected": "the connection was taken for closed",
}
_IN_DOUBT = encode_failure(
    "INDOUBT",
    "the command was proposed and its fate is unknown: ask again with the same REQUEST, or look "
    "with LOCK.GET",
)
_WRONG_TYPE = encode_failure("WRONGTYPE", "Operation against a key holding the wrong kind of value")
_NO_LEADER = encode_failure("CLUSTERDOWN", "there is no leader; the command was not proposed")


_UNAPPLIED: Encoders = {
    ops.InDoubt: _in_doubt,
    ops.NoLeader: _no_leader,
    ops.Busy: _busy,
    ops.Moved: _moved,
}
"""What may take the place of an outcome, and of an answer."""


def _string_encoders(protocol: int) -> Encoders:
    """What string commands are answered, be they operations or queries."""
    return {
        ops.Bulk: _bulk_reply(protocol),
        ops.Number: _number,
        ops.Values: _values_reply(protocol),
        ops.Status: _status,
        ops.WrongType: _wrong_type,
        ops.Scripted: _scripted_2 if protocol == 2 else _scripted_3,
    }


def _released_encoder(protocol: int) -> Encoder:
    """Nearly every release is of the only hold, with nobody waiting: that reply is built once."""
    encode_map = _map_encoder(shapes.RELEASED.fields, protocol)
    usual = encode_map(ops.Released())

    def released(outcome: ops.Released) -> bytes:
        if outcome.holds or outcome.promoted is not None:
            return encode_map(outcome)
        return usual

    return released


def _outcome_encoders(protocol: int) -> Encoders:
    """How to encode each type of outcome. Blocked is none that anybody is told."""
    return {
        ops.Granted: _map_encoder(shapes.GRANTED.fields, protocol),
        ops.Held: _map_encoder(shapes.HELD.fields, protocol),
        ops.TimedOut: _map_encoder(shapes.TIMEOUT.fields, protocol),
        ops.Queued: _map_encoder(shapes.QUEUED.fields, protocol),
        ops.Lost: _map_encoder(shapes.LOST.fields, protocol),
        ops.Released: _released_encoder(protocol),
        ops.Renewed: _map_encoder(shapes.RENEWED.fields, protocol),
        ops.Kept: _kept,
        ops.Broken: _broken,
        ops.NotHeld: _not_held,
        ops.NotOwner: _not_owner,
        ops.Stale: _stale,
        ops.Unblocked: _unblocked,
        ops.NotWaiting: _not_waiting,
        ops.QueueFull: _queue_full,
        ops.Deadlock: _deadlock,
        ops.Cancelled: _cancelled,
        ops.Refused: _refused,
        ops.Done: _done,
        ops.Watched: _done,
        ops.Executed: _executed_encoder(protocol),
        **_string_encoders(protocol),
        **_UNAPPLIED,
    }


def _executed_encoder(protocol: int) -> Encoder:
    """The array of what came of each step, or that there is none."""
    nil = NO_ARRAY[protocol]

    def executed(outcome: ops.Executed) -> bytes:
        if outcome.results is None:
            return nil
        encoders = ENCODERS[protocol]
        parts = [encoders[type(result)](result) for result in outcome.results]
        return b"*%d\r\n%b" % (len(parts), b"".join(parts))

    return executed


OUTCOME_ENCODERS: Final[dict[int, Encoders]] = {
    protocol: _outcome_encoders(protocol) for protocol in (2, 3)
}


# --- outcomes of a pipeline ----------------------------------------------------------------------


def encode_results(results: Sequence[Any], encoders: Encoders, alike: PipelineEncoders) -> bytes:
    """The replies to several commands: `alike` has what is faster when all are of one type."""
    kind = type(results[0])
    encode_alike = alike.get(kind)
    if encode_alike is not None and list(map(type, results)).count(kind) == len(results):
        return encode_alike(results)
    return b"".join([encoders[type(result)](result) for result in results])


def _grants_encoder(protocol: int) -> PipelineEncoder:
    """One template for all of them: it takes a fifth less than one by one."""
    template, varying = _map_template(shapes.GRANTED.fields, protocol)
    assert all(_convert(field, protocol) is None for field in varying), "integers only"
    read = attrgetter(*(field.attribute for field in varying))

    def grants(outcomes: Sequence[ops.Granted]) -> bytes:
        return template * len(outcomes) % tuple(chain.from_iterable(map(read, outcomes)))

    return grants


def _releases_encoder(protocol: int) -> PipelineEncoder:
    """Nearly always the same reply again and again."""
    encode_one = _released_encoder(protocol)

    def releases(outcomes: Sequence[ops.Released]) -> bytes:
        first = outcomes[0]
        if outcomes.count(first) == len(outcomes):
            return encode_one(first) * len(outcomes)
        return b"".join(map(encode_one, outcomes))

    return releases


PIPELINE_ENCODERS: Final[dict[int, PipelineEncoders]] = {
    protocol: {
        ops.Granted: _grants_encoder(protocol),
        ops.Released: _releases_encoder(protocol),
    }
    for protocol in (2, 3)
}
"""For `encode_results`: the outcomes that pipelines have most."""


# --- answers -------------------------------------------------------------------------------------


def encode_answer(answer: ops.Answer | ops.Advised | ops.Unapplied, protocol: int) -> bytes:
    """The reply to the query that had this answer."""
    return ANSWER_ENCODERS[protocol][type(answer)](answer)


def _advised_encoder(protocol: int) -> Encoder:
    encode_advice = _map_encoder(shapes.ADVICE.fields, protocol)
    return lambda answer: encode_advice(answer.advice)


def _answer_encoders(protocol: int) -> Encoders:
    """How to encode each type of answer."""
    lock_info = _optional_map_encoder(shapes.LOCK_INFO, protocol)

    def lock_page(page: ops.LockPage) -> bytes:
        locks = b"".join([lock_info(lock) for lock in page.locks])
        return b"*2\r\n%b*%d\r\n%b" % (_bulk(page.cursor), len(page.locks), locks)

    def key_page(page: ops.KeyPage) -> bytes:
        keys = b"".join([_bulk(key_of(name)) for name in page.names])
        cursor = _bulk(b"%d" % page.cursor)
        return b"*2\r\n%b*%d\r\n%b" % (cursor, len(page.names), keys)

    return {
        ops.LockInfo: lock_info,
        ops.KeyPage: key_page,
        type(None): VALUE_ENCODERS[protocol][type(None)],
        ops.LockPage: lock_page,
        int: _integer,
        bool: _boolean_2,  # a bool is an int
        ops.Advice: _map_encoder(shapes.ADVICE.fields, protocol),
        ops.Stats: _map_encoder(shapes.STATS.fields, protocol),
        ops.Advised: _advised_encoder(protocol),
        **_string_encoders(protocol),
        **_UNAPPLIED,
    }


ANSWER_ENCODERS: Final[dict[int, Encoders]] = {
    protocol: _answer_encoders(protocol) for protocol in (2, 3)
}
ENCODERS: Final[dict[int, Encoders]] = {
    protocol: OUTCOME_ENCODERS[protocol] | ANSWER_ENCODERS[protocol] for protocol in (2, 3)
}
"""Outcomes and answers together: `ENCODERS[protocol][type(result)](result)`."""
