"""From a syntax tree to Python functions that do what it says.

Pure. Each node becomes one function of a frame; frame[0] is the Run, the other slots are variables. A
block takes the steps of its nodes when it begins, so that nothing repeats for free.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, TypeAlias, assert_never

from resplock import limits
from resplock.script import syntax
from resplock.script.failures import BudgetExceeded, Complaint, Raised, mistake
from resplock.script.library import GLOBALS, STRING
from resplock.script.run import Run
from resplock.script.values import (
    Body,
    Function,
    Table,
    Value,
    divide,
    modulo,
    to_number,
    to_text,
    type_name,
)

Frame: TypeAlias = list[Any]
Evaluate: TypeAlias = Callable[[Frame], Value]
EvaluateAll: TypeAlias = Callable[[Frame], list[Value]]
Execute: TypeAlias = Callable[[Frame], "list[Value] | None"]
"""None: go on. BREAK: leave the loop. Else: return these values."""
Store: TypeAlias = Callable[[Frame, Value], None]

BREAK: Final[list[Value]] = []

_CALL_FRAMES = 3
"""How many calls of Python one of Lua takes, besides those of the nodes inside."""
_FUNCTION_BYTES = 128
_TABLE_BYTES = 64
_COERCION_STEPS = 8
"""Reading numbers from strings, for an operator."""


def compile_function(node: syntax.FunctionBody) -> Body:
    """The script itself: a function that captures nothing."""
    return _instantiate(node, _block(node.body), [])


# --- blocks and statements -----------------------------------------------------------------------


def _block(block: syntax.Block) -> Execute:
    statements = [_statement(each) for each in block.statements]
    cost = block.cost

    def execute(frame: Frame) -> list[Value] | None:
        run = frame[0]
        run.steps_left -= cost
        if run.steps_left < 0:
            raise BudgetExceeded(f"the script takes more than {limits.SCRIPT_STEPS_MAX} steps")
        for statement in statements:
            result = statement(frame)
            if result is not None:
                return result
        return None

    return execute


def _statement(node: syntax.Statement) -> Execute:
    match node:
        case syntax.Declare():
            return _declare(node)
        case syntax.DeclareFunction():
            return _declare_function(node)
        case syntax.Assign():
            return _assign(node)
        case syntax.CallStatement():
            return _call_statement(node)
        case syntax.If():
            return _if(node)
        case syntax.While():
            return _repeat(node) if node.is_repeat else _while(node)
        case syntax.NumericFor():
            return _numeric_for(node)
        case syntax.GenericFor():
            return _generic_for(node)
        case syntax.Do():
            return _block(node.body)
        case syntax.Return():
            return _values(node.values)
        case syntax.Break():
            return lambda frame: BREAK
        case _:
            assert_never(node)


def _declare(node: syntax.Declare) -> Execute:
    stores = [_initialize(local) for local in node.locals]
    if len(stores) == 1 and len(node.values) == 1:
        store, evaluate = stores[0], _expression(node.values[0])

        def execute_one(frame: Frame) -> None:
            store(frame, evaluate(frame))

        return execute_one
    return _store_all(stores, _values(node.values))


def _store_all(stores: list[Store], values: EvaluateAll) -> Execute:
    def execute(frame: Frame) -> None:
        given = values(frame)
        for at, store in enumerate(stores):
            store(frame, given[at] if at < len(given) else None)

    return execute


def _initialize(local: syntax.Local) -> Store:
    """Give a new variable its value. A captured one gets a new cell each time."""
    slot = local.slot

    def store(frame: Frame, value: Value) -> None:
        frame[slot] = value

    def store_in_cell(frame: Frame, value: Value) -> None:
        frame[slot] = [value]

    return store_in_cell if local.captured else store


def _declare_function(node: syntax.DeclareFunction) -> Execute:
    slot, make = node.local.slot, _function(node.function)

    def execute(frame: Frame) -> None:
        frame[slot] = make(frame)

    def execute_in_cell(frame: Frame) -> None:
        cell: list[Value] = [None]
        frame[slot] = cell
        cell[0] = make(frame)

    return execute_in_cell if node.local.captured else execute


def _assign(node: syntax.Assign) -> Execute:
    if len(node.targets) == 1 and len(node.values) == 1:
        return _assign_one(node.targets[0], node.values[0])
    places = [_place(target) for target in node.targets]
    values = _values(node.values)

    def execute(frame: Frame) -> None:
        stores = [place(frame) for place in places]
        given = values(frame)
        for at, store in enumerate(stores):
            store(frame, given[at] if at < len(given) else None)

    return execute


def _assign_one(target: syntax.ReadLocal | syntax.Field, value: syntax.Expression) -> Execute:
    place, evaluate = _place(target), _expression(value)

    def execute(frame: Frame) -> None:
        place(frame)(frame, evaluate(frame))

    return execute


def _place(target: syntax.ReadLocal | syntax.Field) -> Callable[[Frame], Store]:
    """Evaluates what is in the target, and gives what stores a value there."""
    if isinstance(target, syntax.ReadLocal):
        store = _reassign(target.local)
        return lambda frame: store
    of, key, line = _expression(target.of), _expression(target.key), target.line

    def place(frame: Frame) -> Store:
        table, at = of(frame), key(frame)
        if type(table) is not Table:
            raise mistake(line, b"attempt to index %b" % _described(target.of, table))
        return lambda frame, value: _set_field(frame[0], table, at, value, line)

    return place


def _reassign(local: syntax.Local) -> Store:
    slot = local.slot

    def store(frame: Frame, value: Value) -> None:
        frame[slot] = value

    def store_in_cell(frame: Frame, value: Value) -> None:
        frame[slot][0] = value

    return store_in_cell if local.captured else store


def _set_field(run: Run, table: Table, key: Value, value: Value, line: int) -> None:
    if table.frozen:
        raise mistake(line, b"Attempt to modify a readonly table")
    _check_key(key, line)
    run.allot(limits.SCRIPT_ELEMENT_BYTES)
    table.set(key, value)


def _check_key(key: Value, line: int) -> None:
    if key is None:
        raise mistake(line, b"table index is nil")
    if key != key:
        raise mistake(line, b"table index is NaN")


def _call_statement(node: syntax.CallStatement) -> Execute:
    call = _call(node.call)

    def execute(frame: Frame) -> None:
        call(frame)

    return execute


def _if(node: syntax.If) -> Execute:
    arms = [(_expression(condition), _block(body)) for condition, body in node.arms]
    otherwise = _block(node.otherwise) if node.otherwise else None

    def execute(frame: Frame) -> list[Value] | None:
        for condition, body in arms:
            value = condition(frame)
            if value is not None and value is not False:
                return body(frame)
        return otherwise(frame) if otherwise else None

    return execute


# --- loops ---------------------------------------------------------------------------------------


def _while(node: syntax.While) -> Execute:
    condition, body = _expression(node.condition), _block(node.body)

    def execute(frame: Frame) -> list[Value] | None:
        while True:
            value = condition(frame)
            if value is None or value is False:
                return None
            result = body(frame)
            if result is not None:
                return None if result is BREAK else result

    return execute


def _repeat(node: syntax.While) -> Execute:
    condition, body = _expression(node.condition), _block(node.body)

    def execute(frame: Frame) -> list[Value] | None:
        while True:
            result = body(frame)
            if result is not None:
                return None if result is BREAK else result
            value = condition(frame)
            if value is not None and value is not False:
                return None

    return execute


def _numeric_for(node: syntax.NumericFor) -> Execute:
    start, stop = _expression(node.start), _expression(node.stop)
    step = _expression(node.step) if node.step else lambda frame: 1.0
    store, body, line = _initialize(node.local), _block(node.body), node.line

    def bound(value: Value, name: bytes) -> float:
        number = to_number(value)
        if number is None:
            raise mistake(line, b"'for' %b must be a number" % name)
        return number

    def execute(frame: Frame) -> list[Value] | None:
        first, last, stride = start(frame), stop(frame), step(frame)
        number, end = bound(first, b"initial value"), bound(last, b"limit")
        by = bound(stride, b"step")
        while number <= end if by > 0 else number >= end:
            store(frame, number)
            result = body(frame)
            if result is not None:
                return None if result is BREAK else result
            number += by
        return None

    return execute


def _generic_for(node: syntax.GenericFor) -> Execute:
    values, body, line = _values(node.values), _block(node.body), node.line
    stores = [_initialize(local) for local in node.locals]

    def execute(frame: Frame) -> list[Value] | None:
        iterator, state, control, *_ = [*values(frame), None, None, None]
        while True:
            if type(iterator) is not Function:
                raise mistake(line, f"attempt to call a {type_name(iterator)} value".encode())
            given = _called(iterator, frame[0], [state, control], line)
            control = given[0] if given else None
            if control is None:
                return None
            for at, store in enumerate(stores):
                store(frame, given[at] if at < len(given) else None)
            result = body(frame)
            if result is not None:
                return None if result is BREAK else result

    return execute


# --- expressions ---------------------------------------------------------------------------------


def _values(nodes: list[syntax.Expression]) -> EvaluateAll:
    """All values of a list of expressions: a call in the last place gives all of its own."""
    if not nodes:
        return lambda frame: []
    last = nodes[-1]
    if isinstance(last, syntax.Call):
        call, first = _call(last), [_expression(node) for node in nodes[:-1]]
        if not first:
            return call
        return lambda frame: [*[evaluate(frame) for evaluate in first], *call(frame)]
    evaluates = [_expression(node) for node in nodes]
    if len(evaluates) == 1:
        only = evaluates[0]
        return lambda frame: [only(frame)]
    return lambda frame: [evaluate(frame) for evaluate in evaluates]


def _expression(node: syntax.Expression) -> Evaluate:
    match node:
        case syntax.Constant():
            return _constant(node.value)
        case syntax.ReadLocal():
            return _read_local(node.local)
        case syntax.ReadGlobal():
            return _read_global(node.name)
        case syntax.Field():
            return _field(node)
        case syntax.Call():
            return _first(_call(node))
        case syntax.Parenthesized():
            return _expression(node.inner)
        case syntax.Unary():
            return _unary(node)
        case syntax.Binary():
            return _binary(node)
        case syntax.Concatenation():
            return _concatenation(node)
        case syntax.Constructor():
            return _constructor(node)
        case syntax.FunctionBody():
            return _function(node)
        case _:
            assert_never(node)


def _constant(value: Value) -> Evaluate:
    return lambda frame: value


def _read_local(local: syntax.Local) -> Evaluate:
    slot = local.slot
    if not local.captured:
        return operator.itemgetter(slot)
    return lambda frame: frame[slot][0]


def _read_global(name: str) -> Evaluate:
    if name == "KEYS":
        return lambda frame: frame[0].keys
    if name == "ARGV":
        return lambda frame: frame[0].argv
    return _constant(GLOBALS[name])


def _library_field(node: syntax.Field) -> Evaluate | None:
    """`redis.call` and the like never change."""
    if not (isinstance(node.of, syntax.ReadGlobal) and isinstance(node.key, syntax.Constant)):
        return None
    table = GLOBALS[node.of.name]
    return _constant(table.get(node.key.value)) if isinstance(table, Table) else None


def _field(node: syntax.Field) -> Evaluate:
    known = _library_field(node)
    if known is not None:
        return known
    of, key, line = _expression(node.of), _expression(node.key), node.line

    def evaluate(frame: Frame) -> Value:
        table = of(frame)
        if type(table) is Table:
            return table.get(key(frame))
        if type(table) is bytes:
            return STRING.get(key(frame))
        raise mistake(line, b"attempt to index %b" % _described(node.of, table))

    return evaluate


def _first(call: EvaluateAll) -> Evaluate:
    def evaluate(frame: Frame) -> Value:
        values = call(frame)
        return values[0] if values else None

    return evaluate


def _call(node: syntax.Call) -> EvaluateAll:
    if node.method is not None:
        return _method_call(node, node.method)
    function, arguments, line = _expression(node.function), _values(node.arguments), node.line

    def call(frame: Frame) -> list[Value]:
        callee = function(frame)
        given = arguments(frame)
        if type(callee) is not Function:
            raise mistake(line, b"attempt to call %b" % _described(node.function, callee))
        try:
            return callee.call(frame[0], given)
        except Raised as error:
            error.line = error.line or line
            raise
        except Complaint as complaint:
            raise mistake(line, complaint.text) from None

    return call


def _method_call(node: syntax.Call, method: bytes) -> EvaluateAll:
    of, arguments, line = _expression(node.function), _values(node.arguments), node.line

    def call(frame: Frame) -> list[Value]:
        subject = of(frame)
        table = STRING if type(subject) is bytes else subject
        if type(table) is not Table:
            raise mistake(line, b"attempt to index %b" % _described(node.function, subject))
        callee = table.get(method)
        given = arguments(frame)
        if type(callee) is not Function:
            kind = type_name(callee).encode()
            raise mistake(line, b"attempt to call method '%b' (a %b value)" % (method, kind))
        return _called(callee, frame[0], [subject, *given], line)

    return call


def _called(function: Function, run: Run, arguments: list[Value], line: int) -> list[Value]:
    try:
        return function.call(run, arguments)
    except Raised as error:
        error.line = error.line or line
        raise
    except Complaint as complaint:
        raise mistake(line, complaint.text) from None


def _described(node: syntax.Expression, value: Value) -> bytes:
    """What an error says of an operand, as Lua 5.1 words it."""
    kind = type_name(value)
    match node:
        case syntax.ReadLocal():
            where = "upvalue" if node.local.is_upvalue else "local"
            return f"{where} '{node.local.name}' (a {kind} value)".encode()
        case syntax.ReadGlobal():
            return f"global '{node.name}' (a {kind} value)".encode()
        case syntax.Field(key=syntax.Constant(value=bytes() as name)):
            return b"field '%b' (a %b value)" % (name, kind.encode())
        case syntax.Field():
            return f"field '?' (a {kind} value)".encode()
        case _:
            return f"a {kind} value".encode()


# --- operators -----------------------------------------------------------------------------------


def _unary(node: syntax.Unary) -> Evaluate:
    operand, line = _expression(node.operand), node.line
    if node.operator == "not":

        def negate(frame: Frame) -> Value:
            value = operand(frame)
            return value is None or value is False

        return negate

    def minus(frame: Frame) -> Value:
        value = operand(frame)
        if type(value) is float:
            return -value
        frame[0].spend(_COERCION_STEPS)
        number = to_number(value)
        if number is None:
            text = b"attempt to perform arithmetic on %b" % _described(node.operand, value)
            raise mistake(line, text)
        return -number

    def length(frame: Frame) -> Value:
        value = operand(frame)
        if type(value) is bytes:
            return float(len(value))
        if type(value) is Table:
            return float(len(value.items))
        raise mistake(line, b"attempt to get length of %b" % _described(node.operand, value))

    return minus if node.operator == "-" else length


def _binary(node: syntax.Binary) -> Evaluate:
    match node.operator:
        case "and":
            return _and(node)
        case "or":
            return _or(node)
        case "==" | "~=":
            return _equality(node)
        case "<" | "<=" | ">" | ">=":
            return _comparison(node)
        case _:
            return _arithmetic(node)


def _and(node: syntax.Binary) -> Evaluate:
    left, right = _expression(node.left), _expression(node.right)

    def evaluate(frame: Frame) -> Value:
        value = left(frame)
        return value if value is None or value is False else right(frame)

    return evaluate


def _or(node: syntax.Binary) -> Evaluate:
    left, right = _expression(node.left), _expression(node.right)

    def evaluate(frame: Frame) -> Value:
        value = left(frame)
        return right(frame) if value is None or value is False else value

    return evaluate


def _equality(node: syntax.Binary) -> Evaluate:
    left, right = _expression(node.left), _expression(node.right)

    def equal(frame: Frame) -> Value:
        one, other = left(frame), right(frame)
        if type(one) is not type(other):
            return False
        if type(one) is bytes:
            _look_through(frame[0], one)
        return one == other

    def unequal(frame: Frame) -> Value:
        return not equal(frame)

    return equal if node.operator == "==" else unequal


def _comparison(node: syntax.Binary) -> Evaluate:
    left, right, line = _expression(node.left), _expression(node.right), node.line
    compare, is_swapped = _COMPARISONS[node.operator], node.operator in (">", ">=")

    def evaluate(frame: Frame) -> Value:
        one, other = left(frame), right(frame)
        if type(one) is type(other):
            if type(one) is bytes:
                _look_through(frame[0], one)
                return compare(one, other)
            if type(one) is float:
                return compare(one, other)
        raise mistake(
            line, _not_comparable(other, one) if is_swapped else _not_comparable(one, other)
        )

    return evaluate


def _look_through(run: Run, text: bytes) -> None:
    """A long string takes a while to compare."""
    if len(text) > limits.SCRIPT_BYTES_COMPARED_PER_STEP:
        run.spend(len(text) // limits.SCRIPT_BYTES_COMPARED_PER_STEP)


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _not_comparable(left: Value, right: Value) -> bytes:
    one, other = type_name(left), type_name(right)
    if one == other:
        return f"attempt to compare two {one} values".encode()
    return f"attempt to compare {one} with {other}".encode()


_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": divide,
    "%": modulo,
}


def _arithmetic(node: syntax.Binary) -> Evaluate:
    left, right = _expression(node.left), _expression(node.right)
    compute, line = _ARITHMETIC[node.operator], node.line

    def evaluate(frame: Frame) -> Value:
        one, other = left(frame), right(frame)
        if type(one) is float and type(other) is float:
            return compute(one, other)
        frame[0].spend(_COERCION_STEPS)
        first, second = to_number(one), to_number(other)
        if first is None:
            wrong = _described(node.left, one)
        elif second is None:
            wrong = _described(node.right, other)
        else:
            return compute(first, second)
        raise mistake(line, b"attempt to perform arithmetic on %b" % wrong)

    return evaluate


def _concatenation(node: syntax.Concatenation) -> Evaluate:
    operands, line = [_expression(operand) for operand in node.operands], node.line

    def evaluate(frame: Frame) -> Value:
        values = [operand(frame) for operand in operands]
        pieces: list[bytes] = []
        total = 0
        for at, value in enumerate(values):
            piece = value if type(value) is bytes else to_text(value)
            if piece is None:
                raise mistake(
                    line, b"attempt to concatenate %b" % _described(node.operands[at], value)
                )
            pieces.append(piece)
            total += len(piece)
        frame[0].make(total)
        return b"".join(pieces)

    return evaluate


# --- tables and functions ------------------------------------------------------------------------


def _constructor(node: syntax.Constructor) -> Evaluate:
    items, line = _values(node.items), node.line
    fields = [(_expression(key), _expression(value)) for key, value in node.fields]

    def evaluate(frame: Frame) -> Value:
        run = frame[0]
        values = items(frame)
        run.allot(_TABLE_BYTES + limits.SCRIPT_ELEMENT_BYTES * (len(values) + len(fields)))
        table = Table(list(values))
        for key, value in fields:
            at = key(frame)
            _check_key(at, line)
            table.set(at, value(frame))
        return table

    return evaluate


def _function(node: syntax.FunctionBody) -> Evaluate:
    body = _block(node.body)

    def make(frame: Frame) -> Value:
        frame[0].allot(_FUNCTION_BYTES)
        cells = [(own, frame[outer]) for outer, own in node.upvalues]
        return Function(node.name, _instantiate(node, body, cells))

    return make


def _instantiate(node: syntax.FunctionBody, body: Execute, cells: list[tuple[int, Any]]) -> Body:
    """A function, with the cells that it has captured."""
    size, depth = node.size, node.height + _CALL_FRAMES
    stores = [_initialize(parameter) for parameter in node.parameters]

    def call(run: Run, arguments: list[Value]) -> list[Value]:
        run.enter(depth)
        frame: Frame = [None] * size
        frame[0] = run
        for at, store in enumerate(stores):
            store(frame, arguments[at] if at < len(arguments) else None)
        for slot, cell in cells:
            frame[slot] = cell
        result = body(frame)
        run.leave(depth)
        return [] if result is None else result

    return call
