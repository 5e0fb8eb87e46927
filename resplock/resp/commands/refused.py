"""Redis's commands that there are not, and will not be: each kind with the reason.

Pure, and only data. Who calls one is told so, and pointed to what there is, instead of being told
that it is unknown; the reference lists them.
"""

from __future__ import annotations

from typing import Final

import msgspec

REFERENCE: Final = "docs/reference.md"


class Kind(msgspec.Struct, frozen=True):
    """Commands that are missing for one reason, which ends a sentence: "resplock ..."."""

    why: str
    names: tuple[str, ...]


def _kind(why: str, names: str, container: str = "") -> Kind:
    return Kind(why, tuple(f"{container} {name}".strip() for name in names.split()))


KINDS: Final = (
    _kind(
        "has no lists",
        "BLMOVE BLMPOP BLPOP BRPOP BRPOPLPUSH LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX "
        "LRANGE LREM LSET LTRIM RPOP RPOPLPUSH RPUSH RPUSHX",
    ),
    _kind(
        "has no hashes",
        "HDEL HEXISTS HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HRANDFIELD HSCAN HSET "
        "HSETNX HSTRLEN HVALS HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HTTL HPTTL HPERSIST HEXPIRETIME "
        "HPEXPIRETIME HGETDEL HGETEX HSETEX",
    ),
    _kind(
        "has no sets",
        "SADD SCARD SDIFF SDIFFSTORE SINTER SINTERCARD SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER SMOVE "
        "SPOP SRANDMEMBER SREM SSCAN SUNION SUNIONSTORE",
    ),
    _kind(
        "has no sorted sets",
        "BZMPOP BZPOPMAX BZPOPMIN ZADD ZCARD ZCOUNT ZDIFF ZDIFFSTORE ZINCRBY ZINTER ZINTERCARD "
        "ZINTERSTORE ZLEXCOUNT ZMPOP ZMSCORE ZPOPMAX ZPOPMIN ZRANDMEMBER ZRANGE ZRANGEBYLEX "
        "ZRANGEBYSCORE ZRANGESTORE ZRANK ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE "
        "ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION ZUNIONSTORE SORT SORT_RO "
        "GEOADD GEODIST GEOHASH GEOPOS GEORADIUS GEORADIUSBYMEMBER GEORADIUSBYMEMBER_RO GEORADIUS_RO "
        "GEOSEARCH GEOSEARCHSTORE",
    ),
    _kind(
        "has no streams",
        "XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XINFO XLEN XPENDING XRANGE XREAD XREADGROUP XREVRANGE "
        "XSETID XTRIM XACKDEL XDELEX",
    ),
    _kind(
        "has no bitmaps and no HyperLogLogs",
        "BITCOUNT BITFIELD BITFIELD_RO BITOP BITPOS GETBIT SETBIT PFADD PFCOUNT PFDEBUG PFMERGE "
        "PFSELFTEST",
    ),
    _kind(
        "keeps values that are owners of locks, which are not cut, patched or added to as decimals",
        "INCRBYFLOAT LCS SETRANGE SUBSTR",
    ),
    _kind(
        "does not move a lock to another key or database",
        "COPY DUMP MIGRATE MOVE RENAME RENAMENX RESTORE RESTORE-ASKING SWAPDB",
    ),
    _kind("publishes what happens to locks, and nothing else", "PUBLISH SPUBLISH"),
    _kind("has scripts and no functions", "FCALL FCALL_RO FUNCTION"),
    _kind("has no modules", "LOAD LOADEX UNLOAD", "MODULE"),
    _kind(
        "replicates through Raft, see RAFT.ADD and RAFT.TRANSFER",
        "FAILOVER PSYNC REPLCONF REPLICAOF SLAVEOF SYNC WAITAOF",
    ),
    _kind(
        "is one shard whose members are changed by RAFT.ADD and RAFT.REMOVE",
        "ADDSLOTS ADDSLOTSRANGE BUMPEPOCH COUNT-FAILURE-REPORTS DELSLOTS DELSLOTSRANGE FAILOVER "
        "FLUSHSLOTS FORGET MEET REPLICAS REPLICATE RESET SAVECONFIG SET-CONFIG-EPOCH SETSLOT SLAVES",
        "CLUSTER",
    ),
    _kind("has one user, `default`", "DELUSER DRYRUN LOAD SAVE SETUSER", "ACL"),
    _kind("ends scripts by itself, after a number of steps", "DEBUG KILL", "SCRIPT"),
)

WHY: Final = {name.encode(): kind.why for kind in KINDS for name in kind.names}
"""The reason, by the command's name in capitals; a subcommand's has its container's in front."""


def refusal(name: bytes) -> str | None:
    """What to tell who calls a command, or a subcommand, that will not be there; None of others."""
    name = name.upper()
    why = WHY.get(name)
    return None if why is None else f"resplock {why}: no {name.decode()}, see {REFERENCE}"
