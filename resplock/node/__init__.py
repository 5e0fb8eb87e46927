"""One node: the consensus core, the lock table, and the clients that wait for answers.

Pure: events come in, work comes out. The runtime (`server/`) or the simulator calls, in one turn of
its loop:

    node.submit(client, operations)     for the commands that change the table (PROPOSE)
    node.submit_waiting(client, operation)     for one that may have to wait in line
    node.disconnect(node.client_id(serial))    when a client closes that such a command has named
    node.ask(client, query)             for each command that looks at it (READ)
    node.administer(client, request)    for what an operator asks of the cluster
    node.step(message)                  for each Raft message from a peer
    node.receive(peer, message)         for each message of this package from a peer
    node.link_up(peer, incarnation)     when a link to a peer works, and link_down when it breaks
    node.tick(now_ms)                   when time has passed

    node.gather(now_ms, unix_ms)        once: stamps, and proposes what was submitted as one entry,
                                        or forwards it to the leader
    while node.has_ready():
        ready = node.ready()            what must be durable before what may be sent
        ... send, write and sync, send ...
        node.advance(ready)             applies what is committed
    for client, results in node.take_answers(): ...
    for peer, message in node.take_messages(): ...
    for event in node.take_events(): ...    if `node.keeps_events`
    node.core.take_stand_in_ms()        when to call node.core.stand_now(), if that has changed

Everything is paid per turn rather than per command where it can be: one entry, one encoding, one
synced write, one pass over the outcomes. The path of a command: `gathering`, then `pipeline` once it
is proposed or forwarded, then the lock table, then the answers.

Raft messages may be lost, repeated and reordered. Between link_up and link_down this package's own
messages arrive in order, each once.

    node.py        Node, and what it does in a turn      links.py       peers that ask on behalf of
    runs.py        commands that travel together                        their clients
    pipeline.py    what became of them                   messages.py    what nodes say to each other
    waits.py       clients that wait in line             membership.py  adding, replacing, promoting
    departures.py  clients and nodes that are gone       administration.py   what operators ask
    reads.py       queries                               clock.py       the replicated clock
    refusals.py    tries that need no log entry

Invariants:
- answers to one client leave in the order in which it asked, as long as it does not mix reads with
  operations that are still outstanding (the connection sees to that);
- a stamp is never below the last entry's, and only a leader's monotonic clock advances it;
- a client is told that an operation failed only if it was certainly never proposed; what may have
  been is InDoubt, and what certainly was not is proposed again.
"""

from resplock.node.node import Node, NodeSettings
from resplock.node.runs import Client, Result

__all__ = ["Client", "Node", "NodeSettings", "Result"]
