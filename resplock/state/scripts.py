"""The scripts that are known, by their SHA1.

Pure. Every replica knows the same ones, in the same order; what is compiled of them is derived.
"""

from __future__ import annotations

from resplock import limits
from resplock.script import Program


class ScriptCache:
    """Sources, from the one that was used longest ago on. That one makes room for a new one."""

    def __init__(self) -> None:
        self._sources: dict[bytes, bytes] = {}
        self._programs: dict[bytes, Program] = {}
        self._bytes = 0

    def __contains__(self, sha: bytes) -> bool:
        """Whether this SHA1, in lower case, is known."""
        return sha in self._sources

    def sources(self) -> list[bytes]:
        """All of them, in their order."""
        return list(self._sources.values())

    def use(self, sha: bytes) -> Program | None:
        """The script with this SHA1; None when it is not known."""
        source = self._sources.pop(sha, None)
        if source is not None:
            self._sources[sha] = source
        return self.look(sha)

    def look(self, sha: bytes) -> Program | None:
        """As `use`, but that is not counted: it changes nothing that replicas share."""
        program = self._programs.get(sha)
        if program is None and sha in self._sources:
            program = self._programs[sha] = Program(self._sources[sha])
        return program

    def learn(self, sha: bytes, source: bytes) -> Program:
        """Compile a script that is not known, and know it. Raises Refusal."""
        program = Program(source)
        self._programs[sha] = program
        self.restore(sha, source)
        return program

    def restore(self, sha: bytes, source: bytes) -> None:
        """Know a script that has been compiled before, here or elsewhere."""
        self._sources[sha] = source
        self._bytes += len(source)
        while len(self._sources) > limits.SCRIPTS_MAX or self._bytes > limits.SCRIPTS_BYTES_MAX:
            oldest = next(iter(self._sources))
            self._bytes -= len(self._sources.pop(oldest))
            self._programs.pop(oldest, None)

    def clear(self) -> None:
        """Know none."""
        self._sources.clear()
        self._programs.clear()
        self._bytes = 0
