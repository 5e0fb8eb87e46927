"""The syntax tree of a script.

Pure. `height` is how many levels a node has below it: the compiled node nests as many calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from resplock.script.values import Scalar


@dataclass(eq=False, slots=True)
class Local:
    """A local variable, and where a frame of its function keeps it. Captured: in a cell."""

    name: str
    slot: int
    captured: bool = False
    is_upvalue: bool = False


@dataclass(slots=True)
class Constant:
    """nil, a boolean, a number or a string."""

    value: Scalar
    height: int = 0


@dataclass(slots=True)
class ReadLocal:
    """The value of a local variable."""

    local: Local
    height: int = 0


@dataclass(slots=True)
class ReadGlobal:
    """The value of a global variable: KEYS, ARGV or one of the library."""

    name: str
    line: int
    height: int = 0


@dataclass(slots=True)
class Field:
    """`of[key]` or `of.key`."""

    of: Expression
    key: Expression
    line: int
    height: int


@dataclass(slots=True)
class Call:
    """`function(arguments)`, or `function:method(arguments)`."""

    function: Expression
    method: bytes | None
    arguments: list[Expression]
    line: int
    height: int


@dataclass(slots=True)
class Parenthesized:
    """One value of what may have many."""

    inner: Expression
    height: int


@dataclass(slots=True)
class Unary:
    """`not`, `-` or `#`."""

    operator: str
    operand: Expression
    line: int
    height: int


@dataclass(slots=True)
class Binary:
    """Any operator with two sides but `..`."""

    operator: str
    left: Expression
    right: Expression
    line: int
    height: int


@dataclass(slots=True)
class Concatenation:
    """`a .. b .. c`, as one."""

    operands: list[Expression]
    line: int
    height: int


@dataclass(slots=True)
class Constructor:
    """A table: its items in order, and its fields."""

    items: list[Expression]
    fields: list[tuple[Expression, Expression]]
    line: int
    height: int


@dataclass(slots=True)
class FunctionBody:
    """A function: `size` is the slots of its frame, `upvalues` pairs of slots, outer and own."""

    name: str
    parameters: list[Local]
    body: Block
    size: int
    upvalues: list[tuple[int, int]]
    line: int
    height: int


Expression: TypeAlias = (
    Constant
    | ReadLocal
    | ReadGlobal
    | Field
    | Call
    | Parenthesized
    | Unary
    | Binary
    | Concatenation
    | Constructor
    | FunctionBody
)


@dataclass(slots=True)
class Block:
    """Statements one after the other. `cost`: the nodes of them, without those of inner blocks."""

    statements: list[Statement] = field(default_factory=list)
    cost: int = 1
    height: int = 0


@dataclass(slots=True)
class Declare:
    """`local a, b = ...`."""

    locals: list[Local]
    values: list[Expression]
    line: int
    height: int


@dataclass(slots=True)
class DeclareFunction:
    """`local function`: it can call itself."""

    local: Local
    function: FunctionBody
    height: int


@dataclass(slots=True)
class Assign:
    """`a, b.c = ...`."""

    targets: list[ReadLocal | Field]
    values: list[Expression]
    line: int
    height: int


@dataclass(slots=True)
class CallStatement:
    """A call whose values nobody wants."""

    call: Call
    height: int


@dataclass(slots=True)
class If:
    """Its arms, of conditions and blocks, and what is done when none holds."""

    arms: list[tuple[Expression, Block]]
    otherwise: Block | None
    height: int


@dataclass(slots=True)
class While:
    """`while`; with `is_repeat` it is `repeat ... until condition`."""

    condition: Expression
    body: Block
    is_repeat: bool
    height: int


@dataclass(slots=True)
class NumericFor:
    """`for i = start, stop, step`."""

    local: Local
    start: Expression
    stop: Expression
    step: Expression | None
    body: Block
    line: int
    height: int


@dataclass(slots=True)
class GenericFor:
    """`for k, v in ...`."""

    locals: list[Local]
    values: list[Expression]
    body: Block
    line: int
    height: int


@dataclass(slots=True)
class Do:
    """`do ... end`."""

    body: Block
    height: int


@dataclass(slots=True)
class Return:
    """`return ...`."""

    values: list[Expression]
    height: int


@dataclass(slots=True)
class Break:
    """`break`."""

    height: int = 0


Statement: TypeAlias = (
    Declare
    | DeclareFunction
    | Assign
    | CallStatement
    | If
    | While
    | NumericFor
    | GenericFor
    | Do
    | Return
    | Break
)
