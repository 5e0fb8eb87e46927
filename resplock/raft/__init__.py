"""Consensus: one log that a majority of the servers agree on.

Pure. Bytes, sockets, disks and clocks are the runtime's, and it need not be this one: the simulator
and the tests in memory drive the same core. What the commands in the log mean is not known here.

Where to begin:

    core          the way in: RaftCore, with tick, step, propose, ready, advance
    ready         what the runtime must do, and in which order
    storage       what the runtime must let the core read back
    entries       what the log is made of
    messages      what servers say to each other

How it works, a topic a file:

    roles         follower, pre-candidate, candidate, leader, learner, and the steps between them
    replica       one server's state; roles, terms and the configuration change only here
    elections     standing and voting                       thesis 3.4, 3.6, 4.2.3, 9.6
    replication   the leader: appends, acks, commit         thesis 3.5, 3.6.2, 6.2, 10.2.1
    following     the follower: appends, commit             thesis 3.5
    progress      what the leader knows of one follower
    proposals     what a leader appends
    reads         reads without a log entry                 thesis 6.4
    lease         and without a round                       thesis 6.4.1
    leadership    handing it over                           thesis 3.10
    links         what broken connections tell              early pre-vote
    membership    the configuration in effect               thesis 4.1
    configurations  which configuration may follow which    thesis 4.1, 4.2
    snapshots     adopting one, compacting behind one       thesis 5
    log           the newest entries in memory, the older ones on disk
    config        settings and bounds
    status        what RAFT.STATUS shows

"The thesis" is Ongaro, Consensus: Bridging Theory and Practice (2014); "the paper" is Ongaro and
Ousterhout, In Search of an Understandable Consensus Algorithm, extended version.

Every entry is a run of commands, and the index counts commands. An entry is never split or merged,
so every index that matters is the last one of an entry, and the proofs hold with "entry" read for
"index".
"""
