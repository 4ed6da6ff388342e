"""The conventions of an implementation, found by asking it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pcbench.adapters.numpy import NumpyPCN
from pcbench.cli.conventions import finding_lines
from pcbench.cli.main import main
from pcbench.conformance.conventions import Finding, apply_findings, measure_conventions
from pcbench.protocol.implementation import Conventions
from tests.laws.mutants import MUTANTS, ODD
from tests.laws.mutants.register import subject_of


def silent(factory):
    """A subject whose manifest says nothing about conventions."""
    subject = subject_of(factory)
    subject.manifest = replace(subject.manifest, conventions=Conventions())
    return subject


@pytest.mark.parametrize("name", [n for n in ODD if not n.startswith("architecture")])
def test_what_a_manifest_declares_is_found_without_it(name):
    """If this fails, a maintainer is told a convention that the library does not follow, or none at all."""
    found = list(measure_conventions(silent(ODD[name].factory)))
    assert apply_findings(Conventions(), found) == subject_of(ODD[name].factory).manifest.conventions
    assert all(f.skipped or f.determined is not None for f in found)


@pytest.mark.parametrize(
    ("mutant", "laws"),
    [
        ("half-lost", ["energy.matches-definition", "energy.layer-energies-match-definition"]),
        ("input-overwritten", []),  # wrong too, but not in a number
    ],
)
def test_a_defect_is_not_explained_away(mutant, laws):
    """If this fails, some combination of conventions covers up a wrong formula, or a right one remains unexplained."""
    found = list(measure_conventions(silent(MUTANTS[mutant].factory)))
    assert [f.law for f in found if not f.skipped and f.determined is None] == laws
    assert apply_findings(Conventions(), found) == Conventions()


def test_the_factor_of_an_energy_that_only_inference_reports():
    """If this fails, an energy of the step before the last is compared with one of the last, and has no factor."""
    declared = Conventions(energy_reduction="sum", energy_factor=2.0, energy_lag=1)

    class Lagging(NumpyPCN):
        def infer(self, network, input, target, steps, step_size, start=None):
            state = super().infer(network, input, target, steps, step_size, start)
            before = super().infer(network, input, target, max(steps - 1, 0), step_size, start)
            energy = 2 * len(input) * self.energy(network, input, target, list(before.activities))
            return replace(state, energy=energy)

    capabilities = replace(NumpyPCN.manifest.capabilities, energy_at_activities=False, reports_energy=True)
    Lagging.manifest = replace(NumpyPCN.manifest, capabilities=capabilities)
    found = list(measure_conventions(silent(Lagging)))
    assert apply_findings(Conventions(), found) == declared


def test_several_explanations_settle_nothing_unless_one_is_declared():
    """If this fails, a convention is chosen by the order of a table."""
    finding = Finding(law="a", fields=("gradient_sign",), declared=(1,), holding=((-1,), (1,)))
    assert finding.determined == (1,)
    other = replace(
        finding, fields=("gradient_point",), declared=("final",), holding=(("previous",), ("previous-errors",))
    )
    assert other.determined is None
    assert finding_lines(other) == [
        "not as declared (gradient_point='final'), but cannot tell apart: gradient_point='previous'; "
        "gradient_point='previous-errors'"
    ]
    assert apply_findings(Conventions(), [finding, other]) == Conventions()


LIBRARY = """
from pcbench.adapters.numpy import NumpyPCN
class Summing(NumpyPCN):
    def layer_energies(self, network, input, *args):
        return {factor} * len(input) * super().layer_energies(network, input, *args)
    def energy(self, *args): return {constant} + super().energy(*args)
    def weight_gradients(self, network, input, *args):
        return [-len(input) * g.T for g in super().weight_gradients(network, input, *args)]
implementation = Summing()
"""


def conventions(text: str):
    Path("library.py").write_text(text)
    return CliRunner().invoke(main, ["conventions", "library.py"])


def test_the_command_prints_what_to_declare(tmp_path, monkeypatch):
    """If this fails, what is printed cannot be pasted, or a pipeline cannot tell that something is to be changed."""
    monkeypatch.chdir(tmp_path)
    result = conventions(LIBRARY.format(factor=2, constant=0))
    assert result.exit_code == 1, result.output
    assert "energy_factor                2.0            declared 1.0" in result.output
    snippet = result.output.split("should declare\n\n")[1].strip().removeprefix("conventions=").rstrip(",")
    assert eval(snippet, {"Conventions": Conventions}) == Conventions(
        energy_reduction="sum", energy_factor=2.0, gradient_sign=-1, gradient_reduction="sum", weight_layout="in-out"
    )


def test_the_command_says_what_nothing_explains(tmp_path, monkeypatch):
    """If this fails, a wrong energy looks like a convention."""
    monkeypatch.chdir(tmp_path)
    result = conventions(LIBRARY.format(factor=1, constant=1))
    assert result.exit_code == 3, result.output
    assert "no combination of activity_order, energy_reduction, energy_factor explains the answers" in result.output
    assert "pcbench replay energy.matches-definition 'D=3,N=4,L=3,K=2,B=2" in result.output


def test_nothing_asked_is_no_agreement(tmp_path, monkeypatch):
    """If this fails, an implementation about which nothing is known is called right."""
    monkeypatch.chdir(tmp_path)
    claims = "__import__('pcbench').Capabilities(architectures=('cnn',))"
    result = conventions(
        "from dataclasses import replace\nfrom pcbench.adapters.numpy import NumpyPCN\n"
        f"class CNN(NumpyPCN): manifest = replace(NumpyPCN.manifest, capabilities={claims})\n"
        "implementation = CNN()\n"
    )
    assert result.exit_code == 3, result.output
    assert "nothing could be asked" in result.output
    assert "as declared" not in result.output


def test_an_implementation_that_follows_its_manifest_is_told_so():
    """If this fails, a right manifest is called wrong."""
    result = CliRunner().invoke(main, ["conventions", "numpy", "--in-process"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("all that could be asked about is as declared\n")
