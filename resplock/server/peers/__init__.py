"""Links to the other nodes, over TCP.

I/O layer. Where each thing is:

    peers      all links of a node: the way in        stream     one TCP connection
    links      one peer: sessions, up and down        framing    bytes to frames
    dialer     dialing a member again and again       greeting   who is there, and whether to talk
    listener   the peer port                          complaints what the log says of peers
    snapshots  sending and receiving their files      tasks      asyncio, mended

What it does not do: it does not decide who is a member, nor which of two servers with one id is the
right one; it says who has shown itself. It encrypts nothing and asks for no password: the peer port
belongs on a network that only the nodes reach.
"""

from resplock.server.peers.greeting import Hello, Identity, Refused, Unreachable
from resplock.server.peers.peers import LinkStatus, PeerEvents, Peers

__all__ = ["Hello", "Identity", "LinkStatus", "PeerEvents", "Peers", "Refused", "Unreachable"]
