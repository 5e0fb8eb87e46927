"""ACL: the one user, `default`, who may do everything, and the categories of commands."""

from __future__ import annotations

import hashlib
from typing import Any

from resplock.errors import CommandError
from resplock.resp import introspection
from resplock.resp.binding import Call
from resplock.resp.replies import Members
from resplock.server.connection import Connection
from resplock.server.local.connection import USER
from resplock.server.local.context import Context, Handler


def whoami(_: Context, __: Connection, ___: Call) -> Any:
    return USER


def users(_: Context, __: Connection, ___: Call) -> Any:
    return [USER]


def list_(context: Context, _: Connection, __: Call) -> Any:
    secrets = [f"#{each}" for each in _passwords(context)] or ["nopass"]
    return [" ".join(("user", USER.decode(), "on", *secrets, "~*", "&*", "+@all"))]


def get_user(context: Context, _: Connection, call: Call) -> Any:
    if call.values["username"] != USER:
        return None
    passwords = _passwords(context)
    return {
        "flags": Members(("on",) if passwords else ("on", "nopass")),
        "passwords": passwords,
        "commands": "+@all",
        "keys": "~*",
        "channels": "&*",
        "selectors": [],
    }


def _passwords(context: Context) -> list[str]:
    """Their SHA-256, as in Redis: who may ask for it has given the password."""
    if context.clients.open_to_all:
        return []
    password = context.settings.requirepass.encode(errors="surrogateescape")
    return [hashlib.sha256(password).hexdigest()]


def categories(_: Context, __: Connection, call: Call) -> Any:
    category = call.values["category"]
    if category is None:
        return introspection.categories()
    names = introspection.names(category)
    if not names:
        shown = category.decode(errors="replace")
        raise CommandError(f"Unknown category '{shown}'")
    return names


HANDLERS: dict[str, Handler] = {
    "ACL CAT": categories,
    "ACL GETUSER": get_user,
    "ACL LIST": list_,
    "ACL USERS": users,
    "ACL WHOAMI": whoami,
}
