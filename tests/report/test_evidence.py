"""Merging evidence over groups and blocking dependants: what makes a report independent of who judged what."""

import itertools
import json

import pytest

from pcbench.report.evidence import OUTCOMES, Evidence, Verdict, Worst, block, merge


def part(group, outcome="pass", **changes):
    values = {"law": "a", "group": group, "outcome": outcome, "examples": 5, **changes}
    return Evidence(**values)


def make_worst(problem, margin=2.0):
    return Worst(margin=margin, error=margin, allowance=1.0, problem=problem)


def test_merging_does_not_depend_on_the_order_of_the_groups():
    """Breaks if a report depends on which runner finished first."""
    parts = [
        part(0, shapes=((1, 1, 2, 1, 1),), worst=Worst(margin=0.1, problem="p0")),
        part(
            1,
            "fail",
            failure=make_worst("D=1,N=1,L=2,K=1,B=1"),
            worst=make_worst("D=9,N=9,L=9,K=9,B=9", 7.0),
            message="one",
        ),
        part(2, "fail", failure=make_worst("D=2,N=1,L=2,K=1,B=1"), message="two", why={"x": 1}, inconclusive=1),
        part(3, "error", message="three"),
    ]
    verdicts = [merge("a", order, 10) for order in itertools.permutations(parts)]
    assert all(v == verdicts[0] for v in verdicts)
    assert verdicts[0].outcome == "fail"
    assert verdicts[0].message == "one", "the message belongs to the smallest failing problem"
    assert verdicts[0].failure is not None
    assert verdicts[0].failure.problem.startswith("D=1,")
    assert verdicts[0].worst.margin == 7.0
    assert verdicts[0].examples == 20
    assert verdicts[0].why == {"x": 1}


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "fail"), "fail"),
        (("error", "fail"), "fail"),
        (("error", "timeout"), "error"),
        (("pass", "timeout"), "timeout"),
        (("pass", "blocked"), "blocked"),
        (("pass", "not-run"), "not-run"),
        (("not-applicable", "not-applicable"), "not-applicable"),
        ((), "not-run"),
    ],
)
def test_the_worst_outcome_of_any_group_is_the_verdict(outcomes, expected):
    """Breaks if a failing, crashing or skipped group can hide behind one that passes."""
    assert merge("a", [part(k, o) for k, o in enumerate(outcomes)], 1).outcome == expected


def test_too_few_examples_are_inconclusive_and_never_pass():
    """Breaks if a law that judged next to nothing turns green."""
    verdict = merge("a", [part(0), part(1, "inconclusive", examples=0, inconclusive=9, why={"no certificate": 9})], 6)
    assert verdict.outcome == "inconclusive"
    assert "5 of at least 6" in verdict.message
    assert merge("a", [part(0), part(1)], 10).outcome == "pass"


def test_shapes_seen_by_several_groups_count_once():
    """Breaks if the number of distinct shapes in the report is inflated by the number of groups."""
    assert (
        merge("a", [part(0, shapes=((1, 2, 3, 4, 5),)), part(1, shapes=((1, 2, 3, 4, 5), (2, 2, 3, 4, 5)))], 1).shapes
        == 2
    )


def test_dependants_of_a_broken_law_are_blocked_and_others_are_not():
    """Breaks if one root cause shows up as several failures, or hides laws that do not depend on it."""
    verdicts = [
        Verdict(law=x, outcome=o) for x, o in (("a", "error"), ("b", "fail"), ("c", "pass"), ("d", "not-applicable"))
    ]
    after = block(verdicts, {"b": {"a"}, "d": {"a"}})
    assert [v.outcome for v in after] == ["error", "blocked", "pass", "not-applicable"]
    assert after[1].message == "depends on a"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_evidence_and_verdicts_survive_json(outcome):
    """Breaks if the journal or a report loses part of a judgement."""
    item = part(3, outcome, shapes=((1, 2, 3, 4, 5),), failure=make_worst("D=1"), why={"r": 2}, stderr="e", seconds=1.5)
    assert Evidence.from_json(json.loads(json.dumps(item.to_json()))) == item
    verdict = Verdict(law="a", outcome=outcome, worst=make_worst("D=2"), failure=None, shapes=3)
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
