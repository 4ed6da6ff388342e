"""The power of the laws, quickly: every wrong implementation dies by the laws that must find it, every odd one lives.

`ci/mutants.py` does the same with every law and many more examples.
"""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from pcbench.properties import judge_group

from pcbench.adapters.numpy import NumpyPCN
from pcbench.laws import REGISTRY
from pcbench.report.profiles import Profile
from tests.laws.mutants import MUTANTS, ODD, PlainArchitectures
from tests.laws.mutants.register import subject_of

QUICK = Profile(name="quick", examples=60, groups=1, shapes=16, minimum=1, shrink=False)
FEW = Profile(name="few", examples=4, groups=1, shapes=8, minimum=1, shrink=False)
SEED = 1
HANDFUL = (
    "contract.inputs-unmodified",
    "energy.matches-definition",
    "gradient.reported-with-inference",
    "gradient.weights-match-definition",
    "inference.energy-reported-with-inference",
    "inference.batch-size-changes-nothing",
    "precision.no-retrace-on-equal-shapes",
    "architecture.cnn-energy-matches-definition",
    "architecture.cnn-weight-gradients-match-definition",
    "architecture.transformer-energy-matches-definition",
    "architecture.transformer-weight-gradients-match-definition",
    "architecture.transformer-step-follows-definition",
)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # wrong implementations overflow


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_dies_by_its_law(name):
    """The first law that must find this defect no longer does: the suite has lost power."""
    mutant = MUTANTS[name]
    law = REGISTRY[mutant.expected[0]]
    law = replace(law, domain=replace(law.domain, **mutant.corner))
    evidence = judge_group(law, subject_of(mutant.factory), QUICK, SEED, 0)
    assert evidence.outcome == "fail", f"{mutant.description} {law.id}: {evidence.outcome}"


@pytest.mark.parametrize("name", ODD)
def test_correct_variant_lives(name, capsys):
    """A law raises a false alarm on a correct implementation, or a declared convention is not undone."""
    subject = subject_of(ODD[name].factory)
    applicable = [law for law in HANDFUL if REGISTRY[law].not_applicable_reason(subject) is None]
    outcomes = {law: judge_group(REGISTRY[law], subject, FEW, SEED, 0) for law in applicable}
    assert {law: e.message for law, e in outcomes.items() if e.outcome in ("fail", "error", "timeout")} == {}
    assert sum(e.examples for e in outcomes.values()) >= FEW.examples


def test_every_law_has_a_mutant():
    """A law that no mutant is expected to break may be unable to fail."""
    assert set(REGISTRY) == {law for mutant in MUTANTS.values() for law in mutant.expected}


def test_the_untouched_are_found_by_the_methods_they_change():
    """A mutant would be excused from laws that it could break, and would survive them unseen."""
    program = runpy.run_path(str(Path(__file__).parents[2] / "ci" / "mutants.py"))
    changed = program["changed_methods"]
    assert changed(MUTANTS["half-lost"].factory) >= {"_energy_term"}
    assert changed(MUTANTS["answer-key"].factory) is None  # intercepts every attribute
    assert changed(MUTANTS["energy-lags"].factory) is None  # another manifest, hence other problems
    assert changed(MUTANTS["retraces"].factory) is None  # offers a method more
    assert changed(ODD["prints"].factory) is None  # no subclass at all

    called: set[str] = set()
    judge_group(REGISTRY["energy.matches-definition"], subject_of(program["tracing_class"](called)), FEW, SEED, 0)
    assert {"energy", "layer_energies", "_energy_term", "_prediction", "_scaling"} <= called
    assert not called & {"infer", "_step", "_weight_gradient", "equilibrium"}


def test_a_survivor_is_reported():
    """The program would call the laws powerful whatever happened."""
    program = runpy.run_path(str(Path(__file__).parents[2] / "ci" / "mutants.py"))
    row = program["Row"]("half-lost", outcomes=dict.fromkeys(REGISTRY, "pass"))
    control = program["Row"]("control", outcomes=dict.fromkeys(REGISTRY, "pass"))
    texts = program["complaints"](control, [row], True)
    assert "mutant half-lost survives" in texts
    assert "law energy.matches-definition kills nothing" in texts
    row.outcomes["energy.matches-definition"], row.messages["energy.matches-definition"] = "error", "raised"
    assert any("half-lost is void" in text for text in program["complaints"](control, [row], False))
    wrong = program["Row"]("prints", outcomes={**control.outcomes, "contract.deterministic": "fail"})
    wrong.messages["contract.deterministic"], wrong.problems["contract.deterministic"] = "m", "p"
    assert any("variant prints fails" in text for text in program["complaints"](control, [wrong], False))


def test_a_run_goes_on_from_its_journal_and_not_from_that_of_other_settings(tmp_path):
    """An hour of judgements would be lost with an interrupted run, or taken for those of other laws or problems."""
    program = runpy.run_path(str(Path(__file__).parents[2] / "ci" / "mutants.py"))
    journal, row = program["Journal"], program["Row"]("half-lost", outcomes={"energy.matches-definition": "fail"})
    path, task, laws = tmp_path / "journal", ("half-lost", {}, None, 1), ("energy.a", "energy.b")
    assert journal(path, {"seed": 1}).find(task) is None
    journal(path, {"seed": 1}).add(task, row)
    for law in laws:
        journal(path, {"seed": 1}).add(("control", {law: None}, None, 1), program["Row"]("control", {law: "pass"}))
    path.write_text(path.read_text() + '["torn", {"na')
    again = journal(path, {"seed": 1})
    assert again.find(task) == row
    assert [again.find(("control", {law: None}, None, 1)).outcomes for law in laws] == [{n: "pass"} for n in laws]
    assert list(program["judge_in_processes"](0, [task], again)) == [row]  # judged by nobody: there is no such profile
    again.add(("prints", {}), program["Row"]("prints"))
    assert journal(path, {"seed": 1}).find(("prints", {})) == program["Row"]("prints")
    other = journal(path, {"seed": 2})
    assert other.find(task) is None
    other.add(task, row)
    assert journal(path, {"seed": 2}).find(task) == row


def test_the_control_passes_quickly():
    """The base of the mutants is wrong itself, so their deaths prove nothing."""
    judged = 0
    for control in (NumpyPCN, PlainArchitectures):
        applicable = [law for law in HANDFUL if REGISTRY[law].not_applicable_reason(subject_of(control)) is None]
        outcomes = [judge_group(REGISTRY[law], subject_of(control), FEW, SEED, 0).outcome for law in applicable]
        assert set(outcomes) == {"pass"}
        judged += len(outcomes)
    assert judged >= len(HANDFUL) - 3  # what only some implementations offer
