"""From the source of a script to its syntax tree.

Pure. A recursive descent by the grammar of the Lua 5.1 manual, section 8. What is outside of the
subset is refused here, by its name: before anything has run.

It uses no parsing library: what is refused has to be named as Lua's own compiler would, and how deep
and how long a script may be is bounded while it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NoReturn, TypeAlias

from resplock import limits
from resplock.script import lexer, syntax
from resplock.script.failures import Refusal
from resplock.script.library import GLOBALS, REFUSED_FIELDS, REFUSED_GLOBALS
from resplock.script.scopes import FunctionScope, TooManyLocals
from resplock.script.values import Scalar

_PRECEDENCES: Final = {
    "or": (1, 1),
    "and": (2, 2),
    **dict.fromkeys(("<", ">", "<=", ">=", "~=", "=="), (3, 3)),
    "..": (5, 4),
    **dict.fromkeys(("+", "-"), (6, 6)),
    **dict.fromkeys(("*", "/", "%"), (7, 7)),
}
"""How strongly an operator binds to its left and to its right."""
_UNARY_PRECEDENCE: Final = 8
_CALL_COST: Final = 6
_FUNCTION_COST: Final = 4
_INDEX_COST: Final = 2
"""In steps; every other node takes one."""
ExpressionParser: TypeAlias = Callable[[], syntax.Expression]
_ENDS_OF_BLOCKS: Final = frozenset({"end", "else", "elseif", "until", lexer.END})


def parse(source: bytes) -> tuple[syntax.FunctionBody, int]:
    """The script as a function without parameters, and how many tokens it has. Raises Refusal."""
    tokens = lexer.tokens(source)
    return _Parser(tokens).script(), len(tokens)


class _Parser:
    def __init__(self, tokens: list[lexer.Token]) -> None:
        """tokens: the last is END."""
        self._tokens = tokens
        self._at = 0
        self._token = tokens[0]
        self._scope = FunctionScope(None)
        self._loops = 0
        self._nesting = 0
        self._cost = 0

    def script(self) -> syntax.FunctionBody:
        try:
            body = self._block()
            if self._token.kind != lexer.END:
                self._unexpected(lexer.END)
        except TooManyLocals:
            self._refuse("a function has too many local variables")
        height = body.height + 1
        return syntax.FunctionBody("script", [], body, self._scope.size, [], 0, height)

    # --- tokens ----------------------------------------------------------------------------------

    def _next(self) -> lexer.Token:
        """Take the token."""
        token = self._token
        if token.kind != lexer.END:
            self._at += 1
            self._token = self._tokens[self._at]
        return token

    def _peek(self) -> lexer.Token:
        """The token behind the next, which is not END."""
        return self._tokens[self._at + 1]

    def _is(self, text: str) -> bool:
        token = self._token
        return token.text == text and token.kind != lexer.STRING

    def _take(self, text: str) -> bool:
        """Take the token if it is this one."""
        if not self._is(text):
            return False
        self._next()
        return True

    def _expect(self, text: str) -> None:
        if not self._take(text):
            self._unexpected(text)

    def _name(self) -> str:
        if self._token.kind != lexer.NAME:
            self._unexpected("<name>")
        return self._next().text

    def _refuse(self, text: str, line: int = 0) -> NoReturn:
        raise Refusal(line or self._token.line, text)

    def _unexpected(self, wanted: str) -> NoReturn:
        self._refuse(f"'{wanted}' expected near '{self._token.text}'")

    # --- heights and costs -----------------------------------------------------------------------

    def _above(
        self, parts: Iterable[syntax.Expression | syntax.Block | syntax.Statement], cost: int = 1
    ) -> int:
        """The height of a node over these parts. Its cost is counted where it is made."""
        self._cost += cost
        height = 1 + max((part.height for part in parts), default=-1)
        if height > limits.SCRIPT_NESTING_MAX:
            self._too_deep()
        return height

    def _too_deep(self) -> NoReturn:
        self._refuse(f"the script nests deeper than {limits.SCRIPT_NESTING_MAX} levels")

    def _deeper(self) -> None:
        self._nesting += 1
        if self._nesting > limits.SCRIPT_NESTING_MAX:
            self._too_deep()

    # --- statements ------------------------------------------------------------------------------

    def _block(self, scoped: bool = True) -> syntax.Block:
        """`scoped` False: the caller has opened the scope, and closes it."""
        self._deeper()
        if scoped:
            self._scope.open_block()
        cost, self._cost = self._cost, 1
        statements: list[syntax.Statement] = []
        while self._token.kind not in _ENDS_OF_BLOCKS:
            statement = self._statement()
            statements.append(statement)
            self._take(";")
            if isinstance(statement, syntax.Return | syntax.Break):
                if self._token.kind not in _ENDS_OF_BLOCKS:
                    self._unexpected("end" if self._nesting > 1 else lexer.END)
                break
        height = self._above(statements)
        block = syntax.Block(statements, self._cost, height)
        self._cost = cost
        if scoped:
            self._scope.close_block()
        self._nesting -= 1
        return block

    def _statement(self) -> syntax.Statement:
        match self._token.kind:
            case "local":
                return self._local()
            case "if":
                return self._if()
            case "while":
                return self._while()
            case "repeat":
                return self._repeat()
            case "for":
                return self._for()
            case "do":
                self._next()
                body = self._block()
                self._expect("end")
                return syntax.Do(body, self._above([body]))
            case "return":
                return self._return()
            case "break":
                return self._break()
            case "function":
                self._refuse("a global function is not supported: write `local function`")
            case _:
                return self._call_or_assignment()

    def _local(self) -> syntax.Statement:
        line = self._next().line
        if self._take("function"):
            local = self._scope.declare(self._name())
            function = self._function(local.name)
            return syntax.DeclareFunction(local, function, self._above([function]))
        names = self._names(self._name())
        values = self._expressions() if self._take("=") else []
        locals_ = [self._scope.declare(name) for name in names]
        return syntax.Declare(locals_, values, line, self._above(values))

    def _names(self, first: str) -> list[str]:
        names = [first]
        while self._take(","):
            names.append(self._name())
        return names

    def _if(self) -> syntax.If:
        arms: list[tuple[syntax.Expression, syntax.Block]] = []
        while True:  # at `if` or `elseif`
            self._next()
            condition = self._expression()
            self._expect("then")
            arms.append((condition, self._block()))
            if not self._is("elseif"):
                break
        otherwise = self._block() if self._take("else") else None
        self._expect("end")
        parts = [part for arm in arms for part in arm] + ([otherwise] if otherwise else [])
        return syntax.If(arms, otherwise, self._above(parts))

    def _while(self) -> syntax.While:
        self._next()
        condition, cost = self._costed(self._expression)
        self._expect("do")
        body = self._loop_body()
        body.cost += cost
        self._expect("end")
        return syntax.While(condition, body, False, self._above([condition, body]))

    def _repeat(self) -> syntax.While:
        self._next()
        self._scope.open_block()
        body = self._loop_body(scoped=False)
        self._expect("until")
        condition, cost = self._costed(self._expression)  # it sees the variables of the body
        self._scope.close_block()
        body.cost += cost
        return syntax.While(condition, body, True, self._above([condition, body]))

    def _costed(self, part: ExpressionParser) -> tuple[syntax.Expression, int]:
        """A part whose cost is another's."""
        before, self._cost = self._cost, 0
        parsed = part()
        cost, self._cost = self._cost, before
        return parsed, cost

    def _loop_body(self, scoped: bool = True) -> syntax.Block:
        self._loops += 1
        body = self._block(scoped)
        self._loops -= 1
        return body

    def _for(self) -> syntax.Statement:
        line = self._next().line
        first = self._name()
        if self._take("="):
            return self._numeric_for(first, line)
        names = self._names(first)
        self._expect("in")
        values = self._expressions()
        self._expect("do")
        self._scope.open_block()
        locals_ = [self._scope.declare(name) for name in names]
        body = self._loop_body()
        self._scope.close_block()
        self._expect("end")
        return syntax.GenericFor(locals_, values, body, line, self._above([*values, body]))

    def _numeric_for(self, name: str, line: int) -> syntax.NumericFor:
        start = self._expression()
        self._expect(",")
        stop = self._expression()
        step = self._expression() if self._take(",") else None
        self._expect("do")
        self._scope.open_block()
        local = self._scope.declare(name)
        body = self._loop_body()
        self._scope.close_block()
        self._expect("end")
        parts = [start, stop, body] if step is None else [start, stop, step, body]
        return syntax.NumericFor(local, start, stop, step, body, line, self._above(parts))

    def _return(self) -> syntax.Return:
        self._next()
        is_empty = self._token.kind in _ENDS_OF_BLOCKS or self._is(";")
        values = [] if is_empty else self._expressions()
        return syntax.Return(values, self._above(values))

    def _break(self) -> syntax.Break:
        line = self._next().line
        if not self._loops:
            self._refuse(f"no loop to break near '{self._token.text}'", line)
        return syntax.Break()

    def _call_or_assignment(self) -> syntax.Statement:
        line = self._token.line
        if self._token.kind == lexer.NAME and self._scope.find(self._token.text) is None:
            self._check_global_target(self._token.text)
        first = self._suffixed()
        if self._is("=") or self._is(","):
            targets = [self._target(first, line)]
            while self._take(","):
                targets.append(self._target(self._suffixed(), line))
            self._expect("=")
            values = self._expressions()
            return syntax.Assign(targets, values, line, self._above([*targets, *values]))
        if not isinstance(first, syntax.Call):
            self._refuse(f"syntax error near '{self._token.text}'")
        return syntax.CallStatement(first, self._above([first]))

    def _check_global_target(self, name: str) -> None:
        """`name = ...` says what it is, even when there is no such variable to read."""
        if self._peek().kind == lexer.SYMBOL and self._peek().text in ("=", ","):
            self._refuse(f"an assignment to the global variable '{name}': write `local {name}`")

    def _target(self, target: syntax.Expression, line: int) -> syntax.ReadLocal | syntax.Field:
        if isinstance(target, syntax.ReadLocal | syntax.Field):
            return target
        if isinstance(target, syntax.ReadGlobal):
            self._refuse(f"an assignment to the global variable '{target.name}'", line)
        self._refuse(f"syntax error near '{self._token.text}'")

    # --- expressions -----------------------------------------------------------------------------

    def _expressions(self) -> list[syntax.Expression]:
        expressions = [self._expression()]
        while self._take(","):
            expressions.append(self._expression())
        return expressions

    def _expression(self, limit: int = 0) -> syntax.Expression:
        """An expression whose operators bind more strongly than `limit`."""
        self._deeper()
        left = self._unary()
        while self._token.kind != lexer.STRING:
            if self._is("^"):
                self._refuse("the operator '^' is not supported")
            precedence = _PRECEDENCES.get(self._token.text)
            if precedence is None or precedence[0] <= limit:
                break
            operator = self._next()
            right = self._expression(precedence[1])
            left = self._binary(operator, left, right)
        self._nesting -= 1
        return left

    def _binary(
        self, operator: lexer.Token, left: syntax.Expression, right: syntax.Expression
    ) -> syntax.Expression:
        line = operator.line
        if operator.text != "..":
            height = self._above([left, right])
            return syntax.Binary(operator.text, left, right, line, height)
        operands = [left]
        operands.extend(right.operands if isinstance(right, syntax.Concatenation) else [right])
        return syntax.Concatenation(operands, line, self._above(operands))

    def _unary(self) -> syntax.Expression:
        token = self._token
        if token.text not in ("not", "-", "#") or token.kind == lexer.STRING:
            return self._simple()
        self._next()
        operand = self._expression(_UNARY_PRECEDENCE)
        if token.text == "-" and isinstance(operand, syntax.Constant):
            if type(operand.value) is float:
                return syntax.Constant(-operand.value)
        return syntax.Unary(token.text, operand, token.line, self._above([operand]))

    def _simple(self) -> syntax.Expression:
        token = self._token
        match token.kind:
            case lexer.STRING | lexer.NUMBER:
                self._next()
                return self._constant(token.value)
            case "nil" | "true" | "false":
                self._next()
                return self._constant(_CONSTANTS[token.kind])
            case "function":
                self._next()
                return self._function("anonymous")
        if self._is("..."):
            self._refuse("'...' is not supported")
        if self._is("{"):
            return self._constructor()
        return self._suffixed()

    def _constant(self, value: Scalar) -> syntax.Constant:
        return syntax.Constant(value, self._above([]))

    def _suffixed(self) -> syntax.Expression:
        """A variable or an expression in parentheses, and what is looked up in it or called of it."""
        left = self._primary()
        while True:
            token = self._token
            if token.kind == lexer.STRING or token.text in ("(", "{"):
                left = self._call(left, None)
            elif token.text == ".":
                self._next()
                name = self._name()
                self._check_field(left, name)
                key = self._constant(name.encode())
                left = syntax.Field(left, key, token.line, self._above([left, key]))
            elif token.text == "[":
                self._next()
                key_expression = self._expression()
                self._expect("]")
                height = self._above([left, key_expression], _INDEX_COST)
                left = syntax.Field(left, key_expression, token.line, height)
            elif token.text == ":":
                self._next()
                method = self._name()
                if f"string.{method}" in REFUSED_FIELDS:
                    self._refuse(f"string.{method} is not supported")
                left = self._call(left, method.encode())
            else:
                return left

    def _check_field(self, left: syntax.Expression, name: str) -> None:
        if isinstance(left, syntax.ReadGlobal) and f"{left.name}.{name}" in REFUSED_FIELDS:
            self._refuse(f"{left.name}.{name} is not supported")

    def _primary(self) -> syntax.Expression:
        token = self._token
        if token.kind == lexer.NAME:
            self._next()
            return self._variable(token)
        if not self._take("("):
            self._refuse(f"unexpected symbol near '{token.text}'")
        inner = self._expression()
        self._expect(")")
        return syntax.Parenthesized(inner, self._above([inner]))

    def _variable(self, token: lexer.Token) -> syntax.Expression:
        name = token.text
        local = self._scope.find(name)
        if local is not None:
            return syntax.ReadLocal(local, self._above([]))
        if name in REFUSED_GLOBALS:
            self._refuse(f"'{name}' is not supported", token.line)
        if name not in GLOBALS:
            self._refuse(f"there is no variable '{name}'", token.line)
        return syntax.ReadGlobal(name, token.line, self._above([]))

    def _call(self, function: syntax.Expression, method: bytes | None) -> syntax.Call:
        token = self._token
        if token.kind == lexer.STRING:
            self._next()
            arguments: list[syntax.Expression] = [self._constant(token.value)]
        elif self._is("{"):
            arguments = [self._constructor()]
        else:
            self._expect("(")
            arguments = [] if self._is(")") else self._expressions()
            self._expect(")")
        height = self._above([function, *arguments], _CALL_COST)
        return syntax.Call(function, method, arguments, token.line, height)

    def _constructor(self) -> syntax.Constructor:
        line = self._next().line
        self._deeper()
        items: list[syntax.Expression] = []
        fields: list[tuple[syntax.Expression, syntax.Expression]] = []
        is_field = False
        while not self._is("}"):
            known = len(fields)
            if self._take("["):
                key = self._expression()
                self._expect("]")
                self._expect("=")
                fields.append((key, self._expression()))
            elif self._token.kind == lexer.NAME and self._is_named_field():
                key = self._constant(self._name().encode())
                self._expect("=")
                fields.append((key, self._expression()))
            else:
                items.append(self._expression())
            is_field = len(fields) > known
            if not (self._take(",") or self._take(";")):
                break
        if is_field and items:  # only what comes last gives all of its values
            items[-1] = syntax.Parenthesized(items[-1], self._above(items[-1:]))
        self._expect("}")
        self._nesting -= 1
        parts = [*items, *(part for pair in fields for part in pair)]
        return syntax.Constructor(items, fields, line, self._above(parts))

    def _is_named_field(self) -> bool:
        ahead = self._peek()
        return ahead.kind == lexer.SYMBOL and ahead.text == "="

    def _function(self, name: str) -> syntax.FunctionBody:
        """A function from its parameters on."""
        line = self._token.line
        scope = self._scope = FunctionScope(self._scope)
        loops, self._loops = self._loops, 0
        scope.open_block()
        parameters = [scope.declare(each) for each in self._parameters()]
        body = self._block()
        self._expect("end")
        assert scope.outer is not None
        self._scope, self._loops = scope.outer, loops
        height = self._above([body], _FUNCTION_COST)
        return syntax.FunctionBody(name, parameters, body, scope.size, scope.upvalues, line, height)

    def _parameters(self) -> list[str]:
        self._expect("(")
        if self._take(")"):
            return []
        names: list[str] = []
        while True:
            if self._is("..."):
                self._refuse("'...' is not supported")
            names.append(self._name())
            if not self._take(","):
                break
        self._expect(")")
        return names


_CONSTANTS: Final = {"nil": None, "true": True, "false": False}
