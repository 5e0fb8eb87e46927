"""RESP: from a client's bytes to typed operations, and from outcomes back to bytes.

Pure. A command goes through the files in this order:

    parser.py         bytes -> lists of words, bounded
    commands/         the command table: every command declared once, `find` by its name
    command.py        what a declaration is, and what is derived from it
    arguments.py      ... the types of its arguments
    shapes.py         ... its replies and their fields
    failures.py       ... its errors
    binding.py        words -> Operation, Query or Call, by functions compiled from declarations
    checks.py         ... what those functions call: numbers and errors
    replies.py        outcomes, answers and values -> bytes of RESP2 or RESP3
    events.py         what happens to locks -> the texts that subscribers get
    introspection.py  COMMAND, COMMAND DOCS, HELP: the table as Redis shows its own
    reference.py      the table as docs/reference.md

Nothing here knows what a command does: that is `state` for operations and queries, and `server` for
calls.
"""
