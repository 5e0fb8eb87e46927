"""Subscribers that read everything that they are sent, in a thread of their own."""

from __future__ import annotations

import os
import selectors
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.client import Client
from bench.servers import BenchError, Server

READ_BYTES = 1 << 18


@contextmanager
def listening(server: Server, commands: list[tuple[str, str]]) -> Iterator[None]:
    """One subscriber for each command, such as `SUBSCRIBE channel`, while the block runs.

    Raises BenchError when one of them was cut off.
    """
    failures: list[BaseException] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        clients = [stack.enter_context(Client(server.connect())) for _ in commands]
        for client, command in zip(clients, commands, strict=True):
            client.call(*command)
            selector.register(client.connection, selectors.EVENT_READ)
        stop, stopping = os.pipe()
        selector.register(stop, selectors.EVENT_READ)
        thread = threading.Thread(
            target=_drain, args=(selector, clients, failures), name="subscribers"
        )
        thread.start()
        try:
            yield
        finally:
            os.close(stopping)
            thread.join()
            os.close(stop)
    if failures:
        raise BenchError(f"a subscriber failed: {failures[0]}")


def _drain(
    selector: selectors.BaseSelector, clients: list[Client], failures: list[BaseException]
) -> None:
    """Read and forget, until the pipe that is registered beside the clients is closed."""
    connections = {client.connection.fileno(): client.connection for client in clients}
    while True:
        for key, _ in selector.select():
            connection = connections.get(key.fd)
            if connection is None:
                return
            try:
                if not connection.recv(READ_BYTES):
                    raise ConnectionResetError("the server closed its connection")
            except OSError as error:
                failures.append(error)
                return
