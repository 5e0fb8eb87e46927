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
from typing import TypeAlias

from resplock import __version__
from resplock.server.clocks import now_ms, unix_ms
from resplock.server.local.connection import REDIS_VERSION, redis_mode
from resplock.server.local.context import Context
from resplock.server.local.memory import (
    clients_bytes,
    peak_bytes,
    resident_bytes,
    system_bytes,
)
from resplock.server.topology import SHARD_NAME

Fields: TypeAlias = dict[str, object]


def info(context: Context, sections: tuple[bytes, ...]) -> str:
    """The text of INFO: of the sections that are named, or of those that are usual.

    As in Redis, `default` stands for the usual ones, `all` and `everything` for all.
    """
    wanted = {section.decode(errors="replace").lower() for section in sections} or {"default"}
    if wanted & {"all", "everything"}:
        shown = list(SECTIONS)
    else:
        shown = [
            title
            for title in SECTIONS
            if title.lower() in wanted or ("default" in wanted and title not in _NOT_USUAL)
        ]
    return "\r\n".join(f"# {title}\r\n" + _lines(SECTIONS[title](context)) for title in shown)


def _lines(fields: Fields) -> str:
    return "".join(f"{name}:{value}\r\n" for name, value in fields.items())


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
        "hz": 100,
        "configured_hz": 100,
        "executable": sys.executable,
        "config_file": "",
        "node_id": context.settings.node_id,
        "data_dir": context.settings.data_dir.absolute(),
    }


def _clients(context: Context) -> Fields:
    clients = context.clients
    return {
        "connected_clients": len(clients),
        "maxclients": clients.maxclients,
        "blocked_clients": clients.blocked,
        "tracking_clients": 0,
        "pubsub_clients": len(clients.pubsub.everybody()),
        "clients_in_timeout_table": 0,
    }


def _memory(context: Context) -> Fields:
    resident, peak, system = resident_bytes(), peak_bytes(), system_bytes()
    return {
        "used_memory": resident,
        "used_memory_human": _human(resident),
        "used_memory_rss": resident,
        "used_memory_rss_human": _human(resident),
        "used_memory_peak": peak,
        "used_memory_peak_human": _human(peak),
        "used_memory_peak_perc": f"{100 * resident / peak:.2f}%",
        "used_memory_startup": context.start_bytes,
        "used_memory_dataset": max(resident - context.start_bytes, 0),
        "total_system_memory": system,
        "total_system_memory_human": _human(system),
        "number_of_cached_scripts": len(context.engine.node.table.scripts.sources()),
        "maxmemory": 0,
        "maxmemory_human": "0B",
        "maxmemory_policy": "noeviction",
        "mem_fragmentation_ratio": "1.00",
        "mem_clients_normal": clients_bytes(context),
        "mem_allocator": "libc",
    }


def _human(size: int) -> str:
    """As Redis shows bytes."""
    unit = next(unit for unit in (2**40, 2**30, 2**20, 2**10, 1) if size >= unit or unit == 1)
    letter = {2**40: "T", 2**30: "G", 2**20: "M", 2**10: "K"}.get(unit)
    return f"{size / unit:.2f}{letter}" if letter else f"{size}B"


def _persistence(context: Context) -> Fields:
    snapshots = context.engine.snapshots
    last = snapshots.last
    return {
        "loading": 0,
        "async_loading": 0,
        "rdb_changes_since_last_save": context.engine.node.core.applied_index
        - context.engine.node.snapshot.index,
        "rdb_bgsave_in_progress": int(snapshots.running),
        "rdb_last_save_time": context.last_save_s,
        "rdb_last_bgsave_status": "ok",
        "rdb_last_bgsave_time_sec": last.duration_ms // 1000 if last else -1,
        "rdb_current_bgsave_time_sec": 0 if snapshots.running else -1,
        "aof_enabled": 1,
        "aof_rewrite_in_progress": 0,
        "aof_rewrite_scheduled": 0,
        "aof_last_rewrite_time_sec": -1,
        "aof_current_rewrite_time_sec": -1,
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "ok",
    }


def _stats(context: Context) -> Fields:
    clients, totals = context.clients, context.engine.node.table.totals
    return {
        "total_connections_received": clients.received,
        "total_commands_processed": clients.commands_run,
        "instantaneous_ops_per_sec": context.rate.look(now_ms(), clients.commands_run),
        "rejected_connections": clients.refused,
        "expired_keys": totals.expired,
        "evicted_keys": 0,
        "keyspace_hits": 0,
        "keyspace_misses": 0,
        "pubsub_channels": clients.pubsub.channel_count,
        "pubsub_patterns": clients.pubsub.pattern_count,
        "pubsubshard_channels": clients.pubsub.shard_channel_count,
        "latest_fork_usec": 0,
        "total_forks": 0,
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
        "master_last_io_seconds_ago": 0 if view.leader else -1,
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
        "used_cpu_sys_children": "0.000000",
        "used_cpu_user_children": "0.000000",
    }


def _modules(_: Context) -> Fields:
    return {}


def _commandstats(context: Context) -> Fields:
    """Of the commands that this node answers by itself and that are not flagged FAST."""
    return {
        f"cmdstat_{name.lower().replace(' ', '|')}": f"calls={times.calls},"
        f"usec={times.total_ns // 1000},usec_per_call={times.total_ns / times.calls / 1000:.2f},"
        "rejected_calls=0,failed_calls=0"
        for name, times in context.engine.observer.times.items()
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
    "Modules": _modules,
    "Commandstats": _commandstats,
    "Cluster": _cluster,
    "Raft": _raft,
    "Locks": _locks,
    "Keyspace": _keyspace,
}
_NOT_USUAL = ("Commandstats",)
"""Sections that have to be asked for."""
