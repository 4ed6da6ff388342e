"""Which rows are withheld: laws that do not pass, and reports that do not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pcbench.adapters.numpy import NumpyPCN
from pcbench.errors import UsageError
from pcbench.leaderboard import conformance
from pcbench.leaderboard.outcome import Entrant
from tests.leaderboard.boards import SPEC, report


def test_the_laws_exist():
    """If this fails, a law has changed its name and rows rest on fewer."""
    from pcbench.laws import REGISTRY

    assert set(conformance.LAWS) <= set(REGISTRY)
    assert set(conformance.NEEDED) <= set(conformance.LAWS)


@pytest.mark.parametrize(
    ("outcomes", "conforms", "said"),
    [
        ({}, True, "12 laws hold"),
        ({"gradient.activities-match-definition": "not-applicable"}, True, "11 laws hold"),
        ({"inference.steps-compose": "fail"}, False, "inference.steps-compose: fail, about inference.steps-compose"),
        ({"inference.steps-compose": "inconclusive"}, False, "inconclusive"),
        ({"inference.steps-compose": "timeout"}, False, "timeout"),
        ({"energy.matches-definition": "not-applicable"}, False, "energy.matches-definition was not judged"),
        (dict.fromkeys(conformance.LAWS, "not-applicable"), False, "was not judged"),
    ],
)
def test_what_does_not_pass_is_withheld(outcomes, conforms, said):
    """If this fails, a speed is shown beside laws that are broken, undecided, or were never judged."""
    found = conformance.standing("numpy", "float64", report(outcomes), conformance.LAWS, "this run")
    assert found.conforms is conforms
    assert said in found.why
    assert "\n" not in found.why


def test_other_laws_are_not_asked():
    """If this fails, a broken law of training withholds the speed of inference."""
    judged = report({"limit.training-follows-backprop": "fail"})
    assert conformance.standing("numpy", "float64", judged, conformance.LAWS, "").conforms


def test_a_report_must_fit(tmp_path):
    """If this fails, another version's conformance vouches for the one that is measured."""
    path = tmp_path / "r.json"
    here = Entrant(name="numpy", given="numpy", spec=SPEC, manifest=NumpyPCN.manifest.to_json())
    path.write_text(report(dtypes=("float64", "float32")).dumps())
    found = conformance.read([str(path)], conformance.LAWS)
    assert set(conformance.assign(found, [here])) == {("numpy", "float64"), ("numpy", "float32")}
    for entrant, said in (
        (replace(here, manifest={**here.manifest, "version": "0.1"}), "with version"),
        (replace(here, manifest={**here.manifest, "versions": {"python": "3.9"}}), "python 3.9"),
        (replace(here, name="other"), "needed one of other"),
        (replace(here, spec=SPEC + "_quick"), "implementation_quick is timed"),
    ):
        with pytest.raises(UsageError, match=said):
            conformance.assign(found, [entrant])
    for other, said in (
        (report(law_set="old"), "law set old"),
        (report(partial="interrupted"), "interrupted"),
        (report({"inference.steps-compose": "not-run"}), "inference.steps-compose"),
        (report(laws=conformance.LAWS[:3]), "were not judged"),
    ):
        path.write_text(other.dumps())
        with pytest.raises(UsageError, match=said):
            conformance.read([str(path)], conformance.LAWS)
