"""The sections of INFO: Redis's fields where they have a meaning here, and a section about Raft.

Clients and tools read some of them to decide what the server is: `redis_version`, `redis_mode`,
`role`, `loading`, `cluster_enabled`, `connected_slaves`, `aof_enabled`.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from resplock import __version__
from resplock.server.clocks import unix_ms
from resplock.server.local.connection import REDIS_VERSION, redis_mode
from resplock.server.local.context import Context
from resplock.server.topology import SHARD_NAME

Fields: TypeAlias = dict[str, object]


def info(context: Context, sections: tuple[bytes, ...]) -> str:
    """The text of INFO; without sections, or with `all`, `default` or `everything`, all of them."""
    wanted = {section.decode(errors="replace").lower() for section in sections}
    if wanted & {"all", "default", "everything"}:
        wanted = set()
    parts = [
        f"# {title}\r\n" + "".join(f"{name}:{value}\r\n" for name, value in fields(context).items())
        for title, fields in SECTIONS.items()
        if not wanted or title.lower() in wanted
    ]
    return "\r\n".join(parts)


def _server(context: Context) -> Fields:
    uptime_s = context.uptime_ms // 1000
    return {
        "redis_version": REDIS_VERSION,
        "resplock_version": __version__,
        "redis_mode": redis_mode(context),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": 64 if sys.maxsize > 2**32 else 32,
        "python_version": platform.python_version(),
        "process_id": os.getpid(),
        "run_id": context.run_id,
        "tcp_port": context.port,
        "server_time_usec": unix_ms() * 1000,
        "uptime_in_seconds": uptime_s,
        "uptime_in_days": uptime_s // 86400,
        "node_id": context.settings.node_id,
        "data_dir": context.settings.data_dir.absolute(),
    }


def _clients(context: Context) -> Fields:
    return {
        "connected_clients": len(context.clients),
        "maxclients": context.clients.maxclients,
        "blocked_clients": context.clients.blocked,
    }


def _memory(_: Context) -> Fields:
    resident = _resident_bytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "used_memory": resident,
        "used_memory_human": f"{resident / 2**20:.2f}M",
        "used_memory_rss": resident,
        "used_memory_peak": peak,
        "maxmemory": 0,
        "maxmemory_policy": "noeviction",
    }


def _persistence(context: Context) -> Fields:
    snapshots = context.engine.snapshots
    return {
        "loading": 0,
        "rdb_bgsave_in_progress": int(snapshots.running),
        "rdb_changes_since_last_save": context.engine.node.core.applied_index
        - context.engine.node.snapshot.index,
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_last_write_status": "ok",
    }


def _stats(context: Context) -> Fields:
    totals = context.engine.node.table.totals
    return {
        "total_connections_received": context.clients.received,
        "rejected_connections": context.clients.refused,
        "total_commands_processed": context.clients.commands_run,
        "expired_keys": totals.expired,
        "evicted_keys": 0,
        "pubsub_channels": context.clients.pubsub.channel_count,
        "pubsub_patterns": context.clients.pubsub.pattern_count,
        "pubsubshard_channels": context.clients.pubsub.shard_channel_count,
    }


def _replication(context: Context) -> Fields:
    """A replica's offset is what the leader knows to be durable there: an index of the log."""
    view = context.view()
    offset = context.engine.node.core.applied_index
    if view.leads:
        reports = context.reports(view)
        replicas = [node for node in view.replicas if reports[node.id].is_up]
        return {
            "role": "master",
            "connected_slaves": len(replicas),
            **{
                f"slave{number}": f"ip={node.host},port={node.port},state=online,"
                f"offset={reports[node.id].offset},lag=0"
                for number, node in enumerate(replicas)
            },
            "master_failover_state": "no-failover",
            "master_replid": SHARD_NAME,
            "master_repl_offset": offset,
        }
    owner = view.owner
    return {
        "role": "slave",
        "master_host": owner.host if owner else "",
        "master_port": owner.port if owner else 0,
        "master_link_status": "up" if view.leader else "down",
        "master_sync_in_progress": int(not view.me.is_voter),
        "slave_read_repl_offset": offset,
        "slave_repl_offset": offset,
        "slave_priority": 100,
        "slave_read_only": 1,
        "replica_announced": 1,
        "connected_slaves": 0,
        "master_failover_state": "no-failover",
        "master_replid": SHARD_NAME,
        "master_repl_offset": offset,
    }


def _cpu(_: Context) -> Fields:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "used_cpu_sys": f"{usage.ru_stime:.6f}",
        "used_cpu_user": f"{usage.ru_utime:.6f}",
    }


def _cluster(context: Context) -> Fields:
    return {"cluster_enabled": int(context.settings.announce_cluster)}


def _raft(context: Context) -> Fields:
    node = context.engine.node
    core = node.core
    return {
        "raft_role": core.status().role,
        "raft_term": core.term,
        "raft_leader_id": core.leader_id or "",
        "raft_commit_index": core.commit_index,
        "raft_last_applied": core.applied_index,
        "raft_snapshot_index": node.snapshot.index,
    }


def _locks(context: Context) -> Fields:
    table = context.engine.node.table
    totals = table.totals
    return {
        "active_locks": sum(table.locks_by_db),
        "acquisitions": totals.acquisitions,
        "refusals": totals.refusals,
        "releases": totals.releases,
        "renewals": totals.renewals,
        "expired": totals.expired,
        "broken": totals.broken,
        "last_version": table.last_version,
    }


def _keyspace(context: Context) -> Fields:
    return {
        f"db{db}": f"keys={count},expires=0,avg_ttl=0"
        for db, count in enumerate(context.engine.node.table.locks_by_db)
        if count
    }


SECTIONS: dict[str, Callable[[Context], Fields]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "CPU": _cpu,
    "Cluster": _cluster,
    "Raft": _raft,
    "Locks": _locks,
    "Keyspace": _keyspace,
}


def _resident_bytes() -> int:
    """Resident memory, where the system tells; else the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()
