"""Leads connections to port 6379 of this machine to the server under test.

For suites with that address written down in them. Python imports this by itself when its directory
is in PYTHONPATH.
"""

import json
import os
import socket

_RUN = json.loads(os.environ["COMPAT_RUN"])
_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex


def _led(address):
    if (
        isinstance(address, tuple)
        and address[1] == 6379
        and address[0] in ("127.0.0.1", "localhost")
    ):
        return (_RUN["host"], _RUN["port"])
    if isinstance(address, tuple) and address[1] == 6379 and address[0] == "::1":
        raise ConnectionRefusedError("only IPv4 is led to the server")
    return address


class _Socket(socket.socket):
    def connect(self, address):
        return _connect(self, _led(address))

    def connect_ex(self, address):
        return _connect_ex(self, _led(address))


socket.socket = _Socket
