"""Several locks in one command: all of them or none."""

from __future__ import annotations

import pytest

from resplock.operations import AcquireAll, Granted, Renew
from resplock.state.table import LockTable
from resplock.types import lock_name

ONE, OTHER = lock_name(0, b"one"), lock_name(0, b"other")


@pytest.mark.parametrize(("ttls_ms", "told_ms"), [((900, 400), 400), ((0, 400), 400), ((0, 0), 0)])
def test_the_holder_is_told_when_the_first_of_them_ends(
    ttls_ms: tuple[int, int], told_ms: int
) -> None:
    """It relies on all of them for as long as it is told."""
    table = LockTable()
    table.apply(1, 1, [AcquireAll((ONE, OTHER), b"a", 300)])
    table.apply(2, 1, [Renew(ONE, b"a", ttl_ms=ttls_ms[0]), Renew(OTHER, b"a", ttl_ms=ttls_ms[1])])
    again = AcquireAll((ONE, OTHER), b"a", 100)
    assert table.apply(4, 1, [again]) == [Granted(1, told_ms)]
