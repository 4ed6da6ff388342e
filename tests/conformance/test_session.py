"""One implementation judged law by law: what is applicable, what is blocked, and what is asked only once."""

import pcbench.properties
import pytest

from pcbench.adapters.numpy import NumpyPCN
from pcbench.conformance.plan import make_plan
from pcbench.conformance.session import Session
from pcbench.errors import UsageError
from pcbench.laws import REGISTRY, transitive_dependencies
from pcbench.report.evidence import Evidence

ROOT, DEPENDANT = "energy.matches-definition", "precision.float32-follows-float64"


class Twice(NumpyPCN):
    """An energy that is twice what the manifest says."""

    def energy(self, network, input, target, activities):
        return 2 * super().energy(network, input, target, activities)


@pytest.fixture
def session():
    """A started session of an object on some laws, closed at the end."""
    made = []

    def start(implementation, laws, **settings):
        made.append(Session(make_plan(implementation, profile="smoke", seed=3, laws=laws, **settings), implementation))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest.fixture
def asked(monkeypatch):
    """The laws that the engine was asked about, which then pass unless they are the root."""
    found = []

    def judge(law, subject, profile, seed, group, first):
        found.append((law.id, group))
        outcome = "fail" if law.id == ROOT and group == 1 else "pass"
        return Evidence(law=law.id, group=group, outcome=outcome, examples=8)

    monkeypatch.setattr(pcbench.properties, "judge_group", judge)
    return found


def test_a_law_that_is_not_applicable_is_not_judged(session, asked):
    """If this fails, an implementation is judged on what it does not claim."""
    law = "precision.no-retrace-on-equal-shapes"
    judging = session(NumpyPCN(), law)
    assert judging.introduction.missing == {law: "needs compilations"}
    verdict = judging.verdict(law)
    assert (verdict.outcome, verdict.message, asked) == ("not-applicable", "needs compilations", [])


def test_what_depends_on_a_broken_law_is_blocked_in_whatever_order_it_is_asked_for(session, asked):
    """If this fails, one cause is several failures, or it depends on the order of tests what fails."""
    dependant = REGISTRY[DEPENDANT]
    judging = session(NumpyPCN(), [ROOT, dependant.id])
    verdict = judging.verdict(dependant.id)
    assert (verdict.outcome, verdict.message) == ("blocked", f"depends on {ROOT}")
    assert judging.verdict(ROOT).outcome == "fail"
    # The law that is blocked is never judged, the root once in each group.
    assert asked == [(ROOT, 0), (ROOT, 1)]
    assert ROOT in transitive_dependencies(dependant.id)


def test_a_law_that_depends_on_one_that_was_not_chosen_is_judged(session, asked):
    """If this fails, choosing one law judges others."""
    dependant = REGISTRY[DEPENDANT]
    assert session(NumpyPCN(), dependant.id).verdict(dependant.id).outcome == "pass"
    assert {law for law, _ in asked} == {dependant.id}


def test_an_object_is_judged_in_this_process(session):
    """If this fails, what somebody wrote in a notebook cannot be judged, or passes although it is wrong."""
    assert session(NumpyPCN(), ROOT).verdict(ROOT).outcome == "pass"
    assert session(Twice, ROOT).verdict(ROOT).outcome == "fail"


def test_an_object_has_no_interpreter_and_no_limits():
    """If this fails, an option is accepted that nothing keeps."""
    with pytest.raises(UsageError, match="is an object here"):
        make_plan(NumpyPCN(), seed=1, python="python3")
    with pytest.raises(UsageError, match="is an object here"):
        make_plan(NumpyPCN(), seed=1, isolation="law")


@pytest.mark.parametrize("seed", [-1, 2**64, True, 1.0, "1"])
def test_a_seed_that_is_none_is_refused(seed):
    """If this fails, a report holds a seed that repeats nothing."""
    with pytest.raises(UsageError, match="needed an integer from 0 to"):
        make_plan("numpy", seed=seed)


def test_a_plan_arrives_as_it_was_sent():
    """If this fails, a runner judges something else than the coordinator planned."""
    plan = make_plan("fabricpc", seed=5, laws=["energy"], known_failures=None, isolation="law")
    assert type(plan).from_json(plan.to_json()) == plan
