"""The replicated lock table: a deterministic state machine.

Pure. `table.LockTable.apply` is the only way in for changes, `queries` the only way to look.

    table.py      apply: operations in, outcomes out; those on plain locks
    ledger.py     what the table holds, and the changes that keep its parts consistent
    records.py    the frozen records that snapshots keep

    granting.py   who may have a lock now, why not, and what a hold looks like
    waiting.py    asking, taking a place in line, taking it over, giving it up
    handover.py   the ends of places, and who is next
    ends.py       the ends of holds: release, time, operators, connections
    leaving.py    clients that go away, and grants that nobody was told of
    deadlocks.py  the cycle that a wait would close

    slotmap.py    a dict by hash slot that can be frozen without a pause
    queues.py     who waits for which lock, and in what order  (places are records, the rest derived)
    timers.py     what ends when                               (derived)
    groups.py     what belongs to which owner or client        (derived)
    requests.py   answers to REQUEST ids
    backoff.py    mean hold times, and advice from them
    rates.py      acquisitions and releases per second         (derived)

    queries.py    LOCK.GET, CHECK, BACKOFF, STATS
    trying.py     what comes of a try that changes nothing, without an entry
    listing.py    LOCK.LIST; crowded.py sorts slots with very many locks bit by bit
    showing.py    a lock as people see it
    snapshots.py  the table as chunks of bytes, and back

Rules for everything here: no clock, no randomness, no floats, no hash() or id(), no iteration over
an unsorted set; every bound that `apply` reads is a constant of the format.
"""
