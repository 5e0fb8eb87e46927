"""The deterministic simulator: whole nodes in virtual time, and everything that may go wrong.

    python -m tests.sim --seeds 200          a campaign: exit status 1 names the seeds that failed
    python -m tests.sim 17                   replay one seed, with a readable trace
    python -m tests.sim.mutants              which seed catches which planted bug

One seed decides everything: what the world is like, which kinds of faults strike and how often, and
when. Nothing reads a clock, a set's order or a hash, so a run is the same byte for byte anywhere.

    world        virtual time: a heap of events, streams of chance, the trace
    knobs        what a seed's world is like
    disk         what a server finds again after a crash
    host         a machine, and the process on it, which drives a real Node as the runtime does
    network      links between hosts: loss, delay, order, partitions
    transfer     snapshots on their way from one host to another
    clients      programs that take locks, and wait in line for them
    asking       of which kind, and how
    strings      how programs take locks that were written for Redis
    faults       what strikes, when; and the operator who mends it
    safety       what must hold at every entry, on every replica (RELIABILITY I1-I12, Raft's own)
    entry        what one entry of the log was
    referee      the rules of holds, queues and grants, by what is asked and told alone
    history      what clients saw, and what must hold of it (RELIABILITY H1-H9)
    linearizable whether one lock can explain what clients saw of it
    simulation   one seed: faults, then healing, then rest
    campaign     many seeds
    mutants      planted bugs, and the seeds that catch them; mutants_in_line, those of waiting and of
                 kinds of locks; planting, how it is done
"""
