"""Planted bugs of tries that are refused without a log entry: see `tests.sim.mutants`.

What a client is told wrongly is in no log: the histories have to notice it. (A stale leader that refuses
is shown by the tests of `tests.node`: here its moment is too short to meet a try.)
"""

from __future__ import annotations

from tests.node import test_planted_refusals as in_node
from tests.sim.planting import BUSY, Patch, mutant_in
from tests.sim.world import MS

TRIES = BUSY | {"lease": False, "redirects": False, "has_model": False}


@mutant_in(**TRIES | {"keys": 2})
def a_try_is_refused_before_what_its_client_asked_earlier(patch: Patch) -> None:
    """Program order: it is refused by a hold whose release is before it in its pipeline."""
    in_node.refuse_behind_what_succeeds(patch)


@mutant_in(**TRIES | {"faults": {"transfer": 300 * MS, "kill": 1500 * MS}, "keys": 2})
def a_new_leader_refuses_by_what_it_remembers(patch: Patch) -> None:
    """Thesis 6.4, step 1: it does not know yet what the last one has committed."""
    in_node.refuse_before_the_term_has_begun(patch)
