"""The replicated lock table: a deterministic state machine.

Pure. `table.LockTable.apply` is the only way in for changes, `queries` the only way to look.

    table.py      apply: operations in, outcomes out; timed ends
    records.py    the frozen records that snapshots keep
    slotmap.py    a dict by hash slot that can be frozen without a pause
    timers.py     which lock ends when            (derived)
    owners.py     which locks an owner holds      (derived)
    requests.py   answers to REQUEST ids
    backoff.py    mean hold times, and advice from them
    queries.py    LOCK.GET, LIST, CHECK, BACKOFF, STATS
    snapshots.py  the table as chunks of bytes, and back

Rules for everything here: no clock, no randomness, no floats, no hash() or id(), no iteration over
an unsorted set; every bound that `apply` reads is a constant of the format.
"""
