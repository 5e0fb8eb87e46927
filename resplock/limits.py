"""Every bound in one place, with its unit.

Pure. Two kinds are kept apart:

- constants of the format: `apply` reads them, so every replica must have the same value. They
  change only together with the feature level (see `resplock.state`).
- limits of one node: they act before a command is proposed, or on sockets and memory.
"""

# --- numbers on the wire and on disk -------------------------------------------------------------

INTEGER_MAX = 2**63 - 1
"""The largest integer in any message or record."""
VERSION_MAX = 2**53 - 1
"""Fencing versions stay exact in clients that only have doubles."""

# --- constants of the format: apply reads them ---------------------------------------------------

DATABASES = 16
ENDS_PER_ENTRY = 1_000
"""How many ends one entry carries out, by time and with clients that have gone: 3 to 10 ms of work.
Commands end what is overdue on their own keys first."""
PLACE_END_COST = 8
"""The end of a place, or of a hold that a client took with it, counts as so many of those."""
HOLDS_TIED_PER_CLIENT = 10_000
"""Holds ONCLOSE RELEASE of one connection; more are answered -BUSY."""
KEEPALIVE_HOLDS_MAX = 20_000
"""Holds that one KEEPALIVE renews: an owner of more has to renew them one by one. 0.1 s of work."""
REQUEST_REMEMBERED_MS = 600_000
"""How long the reply to a REQUEST id is remembered, on the replicated clock."""
REQUESTS_PER_OWNER = 128
"""How many REQUEST ids are remembered for one owner; the oldest goes first."""
HOLD_MEANS_MAX = 65_536
"""How many locks have a hold-time mean of their own; the oldest entry goes first."""
WAITERS_PER_LOCK = 10_000
"""Places in one lock's queue before new ones are answered -QUEUEFULL."""
WAITERS_MAX = 100_000
"""Places in all queues together, about 1 kB each, before new ones are answered -BUSY."""
HOLDERS_PER_LOCK = 4096
"""Holds of one shared lock or semaphore; beyond them it has no room."""
DEADLOCK_STEPS_MAX = 256
"""How far a wait is followed, from owner to owner, to see whether it closes a cycle: half a
millisecond, and only when somebody may wait for the owner."""
WAITER_GRACE_MS = 10_000
"""How long a disconnected waiter with a REQUEST may take to ask again, from the disconnect."""
KEYS_PER_ENTRY = 10_000
"""Keys of all commands in one entry that may name several, before the others are answered -BUSY:
about 0.1 s of work."""
ANSWER_BYTES_PER_ENTRY = 1 << 20
"""Values, and replies of scripts, that one entry's commands are answered before the others are
answered -BUSY. So the answers to a message of forwarded commands fit into one."""
SLOTS = 16384
"""Hash slots, as in Redis Cluster."""
SCRIPT_SOURCE_BYTES_MAX = 16 * 1024
"""The longest script, comments included."""
SCRIPT_TOKENS_MAX = 1_000
"""Names, operators and literals of one script, which take up to 6 microseconds each to compile. The
longest of a lock library has 450."""
SCRIPT_TOKEN_STEPS = 25
"""Compiling a token counts as so many steps."""
SCRIPT_STEPS_MAX = 20_000
"""Steps of one run: nodes of its syntax tree, at most 0.25 microseconds each, so that the costliest
script holds the loop for 5 ms. A lock library's takes 150."""
SCRIPT_STEPS_TRIED = 40_000
"""Steps of scripts in one turn, about 10 ms, to see whether they change anything; the others are logged."""
SCRIPT_STEPS_PER_ENTRY = 500_000
"""Steps of all scripts in one entry of the log, about 100 ms, before the others are answered -BUSY."""
SCRIPTS_MAX = 1_000
"""Scripts that are known; the one that was used longest ago goes first."""
SCRIPTS_BYTES_MAX = 512 * 1024
"""Bytes of their sources together. What is compiled of them takes up to 300 times as much memory."""
SCRIPT_NATIVE_STEPS = 20
"""Steps of a script that needs no interpreter."""
SCRIPT_CALL_STEPS = 25
"""Steps of one redis.call."""
SCRIPT_WORD_STEPS = 10
"""Steps of each word that it is given: a command may do something for each."""
SCRIPT_CATCH_STEPS = 10
"""Steps of an error that is caught."""
SCRIPT_BYTES_PER_STEP = 256
"""A call of the library that looks at more bytes, or moves more elements, takes more than a step."""
SCRIPT_BYTES_COMPARED_PER_STEP = 8192
"""Comparing longer strings takes more than a step."""
SCRIPT_BYTES_MAX = 1 << 20
"""Bytes of all strings and tables that one run makes, whether it keeps them or not."""
SCRIPT_STRING_BYTES_MAX = 64 * 1024
"""The longest string that a script makes: no value and no argument is longer."""
SCRIPT_REPLY_BYTES_MAX = 128 * 1024
"""What a script returns, with 16 bytes for each element."""
SCRIPT_ELEMENT_BYTES = 32
"""What storing an element of a table counts for."""
SCRIPT_VALUES_MAX = 8_000
"""Values that one call may return, as in Lua."""
SCRIPT_NESTING_MAX = 60
"""Levels of the syntax tree. Together with SCRIPT_FRAMES_MAX it keeps scripts far from the end of
Python's stack, so that how deep `apply` itself was called makes no difference."""
SCRIPT_FRAMES_MAX = 300
"""How deep calls may nest, in nodes of the syntax tree, each of which takes up to 3 frames of Python;
at least 6 for each call of a Lua function."""
SCRIPT_REPLY_DEPTH_MAX = 16
"""How deep a reply's arrays may nest."""
TRANSACTION_STEPS_PER_ENTRY = 16_384
"""Commands of all transactions in one entry, and the keys that they name and watch, before the others
are answered -BUSY: about 100 ms. Commands within one transaction that take more are refused."""
TRANSACTION_PAGE_STEPS = 1_024
"""What a page of LOCK.LIST or SCAN within a transaction counts for."""
TRANSACTION_REPLY_BYTES_MAX = 4 << 20
"""When the replies within one transaction are longer, the commands behind them are refused."""
WATCHED_MAX = 65_536
"""Keys whose changes are counted because of WATCH. The one watched longest ago goes first, and the
transactions that rely on it are given up."""

# --- commands ------------------------------------------------------------------------------------

KEY_BYTES_MAX = 1024
OWNER_BYTES_MAX = 4096
OWNER_QUOTED_BYTES_MAX = 1024
"""How much of an owner errors are made from."""
REQUEST_BYTES_MAX = 128
REASON_BYTES_MAX = 256
METADATA_PAIRS_MAX = 32
METADATA_KEY_BYTES_MAX = 64
METADATA_VALUE_BYTES_MAX = 256
PATTERN_BYTES_MAX = 1024
TTL_MS_DEFAULT = 30_000
TTL_MS_MAX = 24 * 3600 * 1000
EXPIRY_MS_MAX = INTEGER_MAX - 2**42
"""The TTL of a string key; so that it ends within the integers whatever the clock says."""
WAIT_MS_MAX = 600_000
PRIORITY_MIN, PRIORITY_MAX = -1000, 1000
ACQUIRE_ALL_KEYS_MAX = 128
"""Keys in one LOCK.MACQUIRE."""
LIMIT_MAX = 1_000_000
"""Permits of a semaphore."""
WAITERS_LISTED_MAX = 1_000
"""Waiters that LOCK.GET shows, from the front; their number is always told."""
LIST_COUNT_DEFAULT = 100
LIST_COUNT_MAX = 1000
LIST_BYTES_MAX = 1 << 20
"""A LOCK.LIST page ends early when its reply would be longer than this."""
LIST_LOOKED_AT_MAX = 10_000
"""A LOCK.LIST page ends after it has looked at so many locks, even if none matched."""
LIST_STEPS_MAX = 256 * 1024
"""A LOCK.LIST page ends once its filters have taken so many steps (see `resplock.glob`): about 10 ms.
For a usual glob a step is a byte, so that 10,000 locks with keys of 26 bytes fit on a page."""
VALUES_BYTES_MAX = 1 << 20
"""MGET and KEYS are refused when their reply would be longer than this."""
SCAN_COUNT_DEFAULT = 10
SCAN_COUNT_MAX = 1000
"""A page of SCAN has no more keys, whatever its COUNT, and ends with LIST_STEPS_MAX, too."""
SCAN_LOOKED_AT_MAX = 2_000
"""A page of SCAN ends after it has looked at so many locks: 2 ms."""
KEYS_LOOKED_AT_MAX = 50_000
"""KEYS is refused when there are more locks: it looks at all of them at once, in 50 to 150 ms."""
KEYS_STEPS_MAX = 2 << 20
"""And when its pattern takes more steps (see `resplock.glob`): about 80 ms."""
CONFIG_PATTERNS_MAX = 64
"""Patterns in one CONFIG GET."""
CONFIG_PATTERNS_BYTES_MAX = 4096
"""Their bytes together: the slowest to compile take 4 microseconds for each."""
SLOWLOG_ENTRIES_DEFAULT = 128
SLOWLOG_ENTRIES_MAX = 100_000
"""SLOWLOG's entries; each has SLOWLOG_WORDS_MAX words of about SLOWLOG_WORD_BYTES_MAX bytes at most."""
SLOWLOG_SLOWER_THAN_US_DEFAULT = 10_000
SLOWLOG_WORDS_MAX = 32
SLOWLOG_WORD_BYTES_MAX = 128
LATENCY_SAMPLES_MAX = 160
"""Samples of each kind of event, as in Redis."""
DEBUG_SLEEP_S_MAX = 10
"""How long DEBUG SLEEP may stop a node: less than what its watchdog takes for its end."""
CONFIG_INTEGER_MAX = 2**31 - 1
"""The largest number that CONFIG SET takes, as in Redis."""

# --- RESP connections ----------------------------------------------------------------------------

ARGUMENTS_MAX = 1024
ARGUMENT_BYTES_MAX = 64 * 1024
ARGUMENTS_UNAUTHENTICATED_MAX = 10
ARGUMENT_BYTES_UNAUTHENTICATED_MAX = 1024
INLINE_BYTES_MAX = 64 * 1024
HEADER_BYTES_MAX = 32
"""The longest `*N` or `$N` line."""
PIPELINE_DEPTH_MAX = 1024
"""Commands of one connection that wait for their reply before its socket is read no further."""
QUERY_BUFFER_BYTES_MAX = 256 * 1024
"""Bytes of one connection that wait to be parsed before its socket is read no further."""
COMMAND_BYTES_MAX = 1 << 20
"""The longest single command, all its arguments together."""
TRANSACTION_COMMANDS_MAX = 1024
"""Commands that one connection queues between MULTI and EXEC."""
TRANSACTION_SLOW_MAX = 64
"""How many of them may be of those that are usually alone in an entry, such as LOCK.KEEPALIVE."""
TRANSACTION_BYTES_MAX = 1 << 20
"""Bytes of their arguments, with TRANSACTION_ARGUMENT_BYTES for each."""
TRANSACTION_ARGUMENT_BYTES = 64
WATCHED_PER_CONNECTION = 1024
"""Keys that one connection watches."""
OUTPUT_BUFFER_BYTES_MAX = 1 << 20
"""Replies that a client leaves unread before it is disconnected."""
PUSHED_BYTES_MAX = 32 << 20
"""Messages that a subscriber leaves unread before it is disconnected, as in Redis: what happens to
locks may come in bursts, and is sent as a whole before any of it can be read."""
OUTPUT_PAUSE_BYTES = 64 * 1024
"""Replies that a client leaves unread before its commands are read no further."""
CLIENTS_MAX = 10_000
CLIENTS_BYTES_MAX = 256 << 20
"""What all clients together may make this process keep: beyond it, the largest are disconnected."""
DESCRIPTORS_RESERVED = 128
"""File descriptors kept from clients: without one for its files, the log could not go on."""
LISTEN_BACKLOG = 511
CHANNEL_BYTES_MAX = KEY_BYTES_MAX + 64
"""The longest channel: a lock's key behind a prefix."""
SUBSCRIPTIONS_MAX = 4096
"""Channels and patterns of one connection."""
PATTERN_SUBSCRIPTIONS_MAX = 64
"""Patterns of one connection: every message is compared with each."""
CHANNELS_MAX = 100_000
"""Different channels that are subscribed to on one node."""
OWNERS_WATCHED_MAX = 256
"""Owners that one connection watches."""
OWNERS_WATCHED_ON_NODE_MAX = 32_768
"""Different owners that are watched on one node."""
EVENTS_TOLD_MAX = 512
"""Events that subscribers are told in one turn of the event loop; the others wait for the next."""
EVENTS_TOLD_BYTES_MAX = 4 << 20
"""A turn ends earlier when it has told so much, to all subscribers together."""
EVENTS_TOLD_STEPS_MAX = 128 * 1024
"""And when it has taken so many steps to match patterns (see `resplock.glob`): about 5 ms."""
EVENTS_QUEUED_MAX = 250_000
"""Events that wait to be told before those who listen for any are disconnected."""
PATTERNS_MAX = 1024
"""Different patterns that are subscribed to on one node."""
CHANNELS_BYTES_MAX = 1 << 20
"""PUBSUB CHANNELS ends its list when it would be longer than this."""
PARTIAL_COMMAND_MS_MAX = 10_000
"""How long a connection may take to finish a command that it has begun."""
UNREAD_MS_MAX = 10_000
"""How long a client may read nothing while more than OUTPUT_BUFFER_BYTES_MAX of replies wait for it,
or while anything does and it has nothing more to ask."""
COMPLAINT_EVERY_MS = 60_000
"""Each kind of complaint about clients is logged at most so often."""
UNAUTHENTICATED_MS_MAX = 5_000
"""How long a connection may stay without AUTH when a password is required and it has sent bytes."""
PROPOSALS_QUEUED_MAX = 100_000
"""Commands that wait to be proposed before new ones are answered -BUSY."""

# --- Raft ----------------------------------------------------------------------------------------

RUN_COMMANDS_MAX = 4096
"""Commands in one entry."""
RUN_BYTES_MAX = 4 << 20
"""Bytes of one entry's commands, about."""
APPEND_BYTES_MAX = 4 << 20
"""Bytes of entries in one AppendEntries message; a single larger entry goes alone."""
INFLIGHT_BYTES_MAX = 16 << 20
"""Bytes of entries under way to one follower."""
INFLIGHT_MESSAGES_MAX = 256
FEW_CLIENTS = 64
"""A leader that has at most so many clients in a turn feeds only a majority at once. Measured with
three nodes on two cores: 35 % more cycles at 1 connection, 17 % more at 16, 2 to 12 % more at 64 (and
18 % less CPU a cycle), no difference at 256."""
GATHERED_ENOUGH = 96
"""A leader proposes so many commands at once, however many are under way: with more connections
than that it works on some while its followers sync the others (2 to 7 % more cycles at 256)."""
SNAPSHOT_ENTRIES_DEFAULT = 1_000_000
"""A snapshot is taken after so many commands."""
STAMP_LOGGED_EVERY_MS = 5_000
"""While a deadline exists, the clock is logged at least so often."""
REFUSALS_TOLD_EVERY_MS = 1_000
"""How many tries were refused without a log entry is logged no more often."""
SEARCHED_ALWAYS = 16
"""A run of more commands is searched for tries to refuse only while tries are being refused: looking at
each takes some 3 % of what a cycle costs with many clients."""
CONTENDED_MS = 3 * REFUSALS_TOLD_EVERY_MS
"""How long they count as being refused after the last one."""
UNIX_OFFSET_DRIFT_MS = 1_000
"""The logged offset to unix time is renewed when it is off by more than this."""
ELECTION_TIMEOUT_MS_DEFAULT = 500
MEMBERSHIP_CHANGE_MS_MAX = 10_000
"""How long a leader tries to carry out a change of membership before it gives up."""
NODE_GONE_MS = 3_000
"""How long the leader has no link to a node before it ends what is attached to that node's clients;
and a node no leader, before it closes the connections that have holds ONCLOSE. Longer than it takes
to notice that a connection is broken (PEER_UNACKED_MS_MAX) and to make a new one."""
DISCONNECTS_PER_COMMAND = 1024
"""Clients that one Disconnect names."""
UNDELIVERED_AT_ONCE = 256
"""Commands that tell at once of grants that found nobody."""
DISCONNECTS_QUEUED_MAX = 100_000
"""Clients that have gone of which the log does not know, because there is no leader: beyond it, what
would attach more clients is answered -BUSY."""
FORWARDED_COMMANDS_MAX = 2048
"""Commands that a follower forwards in one message, as a rule: so that their answers, of a name and
an owner at most each but for ANSWER_BYTES_PER_ENTRY, fit into PEER_COMMANDS_BYTES_MAX."""
ANSWER_MS_MAX = 10_000
"""How long a follower waits for the leader's answer while both seem to be well."""
READS_FORWARDED_MAX = 12
"""Queries that a follower forwards in one message: each may have COMMAND_BYTES_MAX, and its answer
LIST_BYTES_MAX or VALUES_BYTES_MAX."""
HEARTBEATS_PER_ELECTION_TIMEOUT = 10
EARLY_VOTE_JITTER_MS = 30
"""A follower that sees its leader's link break asks for pre-votes within so long."""
EARLY_VOTES_MAX = 4
"""How often it does so before it hears a leader again; then election timeouts rule."""
TOMBSTONES_MAX = 256
"""How many removed servers a configuration remembers; the oldest is forgotten first."""
CLOCK_DRIFT_PERCENT = 10
"""How much faster one server's clock may run than another's, at most. Only a leader's lease
relies on it; clocks that are disciplined by NTP differ by 0.1 percent."""

# --- links between nodes --------------------------------------------------------------------------

PEER_GREETING_BYTES_MAX = 32 * 1024
"""The first frame of a connection between nodes, each way."""
PEER_GREETING_MS_MAX = 2_000
"""How long a connection may take until both sides have greeted, and a session until it is complete."""
PEER_CONNECT_MS_MAX = 1_000
PEER_BACKOFF_MS_MIN, PEER_BACKOFF_MS_MAX = 20, 1_000
"""The wait before a node dials again: doubled with each failure, between these, and jittered."""
PEER_SETTLED_MS = 1_000
"""A session that has lasted so long is no failure."""
PEER_PARTIAL_MS_MAX = 10_000
"""How long a node may take to finish a frame that it has begun."""
PEER_UNACKED_MS_MAX = 2_000
"""A connection whose peer's kernel has taken nothing for so long, of what was sent, is broken."""
PEER_STRANGERS_MAX = 32
"""Accepted connections that have not greeted; the oldest makes way for a new one."""
PEER_GUESTS_MAX = 16
"""Servers connected that are not members of the cluster: they may be about to be added."""
PEER_UNSENT_BYTES_MAX = 2 * INFLIGHT_BYTES_MAX
"""Bytes that wait to be sent on one connection; more than an honest peer's window can hold."""
PEER_COMMANDS_BYTES_MAX = 24 << 20
"""The longest frame with forwarded commands or their answers."""
PEER_FAREWELL_MS = 2_000
"""How long the links to a removed server stay, so that it can learn of its removal."""
PEER_COMPLAINTS_MAX = 256
"""Kinds of trouble with peers, times peers, that are counted apart in the log."""

SNAPSHOT_CHUNK_BYTES_MAX = 256 * 1024
"""Bytes of a snapshot file in one message between nodes."""
SNAPSHOT_WINDOW_BYTES = 8 * SNAPSHOT_CHUNK_BYTES_MAX
"""Bytes of a snapshot file under way: sent, and not acknowledged as written."""
SNAPSHOT_SILENT_MS_MAX = 10_000
"""A transfer of a snapshot in which nothing is acknowledged for so long is begun anew."""
SNAPSHOT_FINISH_MS_MAX = 300_000
"""How long a receiver may take to check a whole snapshot and to load it."""
SNAPSHOT_ATTEMPTS_MAX = 4
"""So many attempts in a row without any progress end a transfer."""

# --- the process ---------------------------------------------------------------------------------

ENDS_PREPARED = 4_000
"""How many ends that come soon are put in order in one tick, where there are more: 5 ms of work."""
STALL_FATAL_MS = 20_000
"""The watchdog ends a process whose event loop has not turned for so long."""
MARK_SYNC_EVERY_MS = 1_000
SNAPSHOT_SLICE_MS = 2
"""How long one turn of the event loop may spend on encoding a snapshot."""
