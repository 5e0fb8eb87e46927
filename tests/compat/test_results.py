from tests.compat import parsing, results
from tests.compat.servers import ONE_NODE, THREE_NODES
from tests.compat.suite import FAILED, PASSED, Case, Mode, Outcome, Pip, Suite

ONE, THREE = Mode("one node", ONE_NODE), Mode("three nodes", THREE_NODES)
LOCKERY = Suite(
    library="lockery",
    origin=Pip(("lockery==2.1",)),
    what="its tests",
    modes=(ONE, THREE),
    command=lambda run: [],
    parse=parsing.junit,
)


def test_the_last_outcome_of_each_mode_is_kept(tmp_path):
    cases = [Case("takes", PASSED), Case("waits", FAILED, "never")]
    results.keep(Outcome(LOCKERY, ONE, [], 1.0, "npm is not installed"), tmp_path)
    last = Outcome(LOCKERY, ONE, cases, 2.0, also_on_redis=frozenset(["waits"]))
    results.keep(last, tmp_path)
    one, three = results.kept([LOCKERY], tmp_path)
    assert one == last
    assert three.mode == THREE
    assert three.not_run == "it was left out of this run"
