"""The error tree.

    ResplockError
    ├── CommandError         a client's command cannot be run: becomes a RESP error reply
    ├── ProtocolError        a client's bytes are not RESP: one error reply, then the connection closes
    ├── ConfigError          a setting is wrong: says which, what was given and what is allowed
    └── StorageError         the data directory cannot be used: the process ends, exit status 1
        ├── DirectoryInUse       another process has it
        ├── NewerFormat          written by a later release
        ├── DamagedLog           bytes in the middle of the log are wrong
        ├── DamagedSnapshot      no snapshot that the log depends on can be read
        └── LostEntries          the log ends before entries that were acknowledged

Pure. `assert` is for our own bugs; these are for what clients, operators and disks do.
"""


class ResplockError(Exception):
    """The root of everything that resplock raises on purpose."""


class CommandError(ResplockError):
    """A command that cannot be run. `code` is the reply's first word, such as `ERR` or `NOAUTH`.

    The text may carry a client's bytes; the encoder strips CR, LF and NUL from it.
    """

    def __init__(self, text: str, code: str = "ERR") -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class ProtocolError(ResplockError):
    """Bytes that are not RESP, or over a bound. The connection cannot go on after them."""


class ConfigError(ResplockError):
    """A setting that cannot be used."""


class StorageError(ResplockError):
    """The data directory cannot be used, or a write or sync to it failed."""


class DirectoryInUse(StorageError):
    """Another process holds the data directory's lock."""


class NewerFormat(StorageError):
    """The data was written by a release that uses a later format."""


class DamagedLog(StorageError):
    """The log's records do not have the bytes that were written."""


class DamagedSnapshot(StorageError):
    """A snapshot that the log depends on cannot be read."""


class LostEntries(StorageError):
    """The log ends before its mark: entries that were acknowledged are gone."""
