"""The laws of CNNs and transformers: right implementations pass each with room, and what they draw is what they judge.

That each fails on its mutants is in `test_mutants`, and by many more examples in `ci/mutants.py`.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from pcbench.properties import architectures as strategies
from pcbench.properties import judge_group

from pcbench.adapters.reference_architectures import ReferenceArchitectures
from pcbench.errors import ProblemError
from pcbench.laws import REGISTRY
from pcbench.laws.architecture.equilibrium import ErrorSpace, certify
from pcbench.laws.measuring import ladders
from pcbench.oracle import architectures as oracle
from pcbench.problem.architectures import ArchitectureProblem, problem_from_line
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Capabilities, Manifest
from pcbench.report.profiles import Profile
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject
from tests.laws.mutants import PlainArchitectures
from tests.laws.mutants.register import subject_of

LAWS = {id: law for id, law in REGISTRY.items() if law.domain.kind != "mlp"}
QUICK = {id: law for id, law in LAWS.items() if not law.ladder}
FIXED = {
    "cnn": {"kind": "cnn", "side": 4, "channels": 2, "width": 3, "stages": 1, "blocks": 1, "classes": 3, "batch": 2},
    "transformer": {
        "kind": "transformer", "tokens": 3, "width": 6, "blocks": 1, "heads": 2, "outputs": 3, "vocabulary": 5,
        "batch": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    """The built-in reference, whose programs are compiled once for all laws."""
    return Subject(InProcess(ReferenceArchitectures()))


def fixed_problem(law, **changes):
    """A small problem of a law's domain."""
    activation = "tanh" if "tanh" in law.domain.activations else "linear"
    return ArchitectureProblem(**FIXED[law.domain.kind], activation=activation, steps=3, **changes)


@pytest.mark.parametrize("law", QUICK.values(), ids=QUICK)
def test_right_implementations_pass_with_room(law, reference):
    """If this fails, the law blames the reference or plain NumPy, or its allowance is as tight as rounding."""
    for subject in (reference, subject_of(PlainArchitectures)):
        assert law.not_applicable_reason(subject) is None
        for seed in (1, 2):
            problem = fixed_problem(law, seed=seed)
            assert law.domain.admits(problem)
            m = law.measure(subject, problem)
            assert m.inconclusive is None, m
            assert math.isfinite(m.allowance)
            assert m.margin < 0.5, m


def test_each_kind_has_its_laws():
    """If this fails, whoever claims transformers is judged as a CNN, or not at all."""
    for kind in ("cnn", "transformer"):
        own = [law for law in LAWS.values() if law.domain.kind == kind]
        assert len(own) >= 19
        assert all(law.id.startswith(f"architecture.{kind}-") for law in own)
    bare = Capabilities(architectures=("cnn",), activations=("tanh",))

    class Bare:
        manifest = Manifest(name="bare", capabilities=bare)
        predict = energy = infer = PlainArchitectures.predict

    subject = Subject(InProcess(Bare()))
    applicable = [law.id for law in REGISTRY.values() if law.not_applicable_reason(subject) is None]
    assert "architecture.cnn-energy-matches-definition" in applicable
    assert all(id.startswith("architecture.cnn-") for id in applicable)
    assert REGISTRY["energy.matches-definition"].not_applicable_reason(subject) == "needs architecture mlp"
    assert (
        REGISTRY["architecture.transformer-signal-front"].not_applicable_reason(subject)
        == "needs architecture transformer"
    )
    problem = ArchitectureProblem(**FIXED["transformer"])
    assert subject.refuses(problem) == "architecture='transformer' is not claimed (claimed: cnn)"


def test_nothing_judged_is_not_green():
    """If this fails, an implementation that answers no question about what it claims conforms."""

    class Undecided(PlainArchitectures):
        def equilibrium(self, network, input, target):
            return super()._answer(network, input, target, self._start(network, input, target), False)

    few = Profile(name="few", examples=3, groups=1, shapes=4, minimum=1, shrink=False)
    law = REGISTRY["architecture.transformer-claimed-equilibrium-is-stationary"]
    evidence = judge_group(law, subject_of(Undecided), few, 1, 0)
    assert (evidence.outcome, evidence.examples) == ("inconclusive", 0)
    assert evidence.message == "the solver did not claim convergence"


# ---- problems -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_palettes_lie_in_the_domain_and_show_every_setting(law):
    """If this fails, examples are wasted, or a run never sees attention with softmax, or without."""
    claimed = PlainArchitectures.manifest.capabilities
    for seed in range(20):
        chosen = strategies.configurations(law.domain, claimed, seed, 4)
        assert len(chosen) == strategies.SMALLEST
        for problem in chosen:
            parameterisation = law.domain.parameterisations[0]
            assert law.domain.admits(problem.replace(parameterisation=parameterisation, steps=2)), problem.line()
            assert problem_from_line(problem.line()) == problem
        if law.domain.kind == "transformer":
            for setting in ("softmax", "normalised", "causal"):
                assert {getattr(p, setting) for p in chosen} == {False, True}


def test_lines():
    """If this fails, `pcbench replay` reads another problem than the one that failed."""
    assert isinstance(problem_from_line("D=2,N=3,L=2,K=1,B=1"), Problem)
    problem = ArchitectureProblem(**FIXED["transformer"], softmax=False, seed=7)
    assert problem_from_line(f" {problem.line()}\n") == problem
    assert "gain" not in problem.to_json()
    assert {"tokens", "softmax"} <= set(problem.to_json())
    with pytest.raises(ProblemError, match="'ce' with 1 classes: needed 2 or more"):
        ArchitectureProblem(**{**FIXED["cnn"], "classes": 1}, loss="ce")


def test_ladders_widen_only():
    """If this fails, a rate in width is measured along something else."""
    for kind in ("cnn", "transformer"):
        first = ladders.first_rung(kind, 3, ("tanh", "relu"))
        rungs = ladders.architecture_rungs(first)
        assert [r.width / first.width for r in rungs] == [1, 2, 4]
        assert {r.replace(width=first.width) for r in rungs} == {first}
        assert first.kind == kind


# ---- the certificate ------------------------------------------------------------------------------------------------


def test_a_certificate_encloses_the_distance_of_a_linear_cnn():
    """If this fails, equilibria are certified that are not there: the gap is known exactly without an activation."""
    network = (problem := ArchitectureProblem(**FIXED["cnn"], activation="linear")).architecture()
    x, y = problem.input(), problem.target()
    subject = subject_of(PlainArchitectures)
    z = subject.equilibrium(network, x, y).activities
    least = oracle.energy(network, x, y, z)[0]
    start = [f.value for f in oracle.feedforward(network, x)[:-1]]
    for share in (0.0, 0.5, 0.9):
        there = [a + share * (b - a) for a, b in zip(start, z, strict=True)]
        gap = oracle.energy(network, x, y, there)[0] - least
        assert gap <= certify(network, x, y, there).gap_bound
        assert certify(network, x, y, there).gap_bound <= 50 * gap


def test_hessian_products_are_symmetric_and_see_the_identity():
    """If this fails, the curvature of a certificate is that of something else."""
    problem = ArchitectureProblem(**FIXED["transformer"])
    network, x, y = problem.architecture(), problem.input(), problem.target()
    errors = [np.zeros((2, *s)) for s in network.activity_shapes]
    space = ErrorSpace(network, x, y, errors)
    random = np.random.default_rng(0)
    u, v = ([random.standard_normal(a.shape) for a in space.activities] for _ in range(2))
    Hu, Hv = space.hessian_product(u), space.hessian_product(v)
    left, right = (sum(float(np.sum(p * q)) for p, q in zip(a, b, strict=True)) for a, b in ((u, Hv), (v, Hu)))
    assert left == pytest.approx(right, rel=1e-6)
    small = problem.replace(output_precision=1e-6)
    near = ErrorSpace(small.architecture(), x, y, errors).hessian_product(u)
    for a, b in zip(near, u, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


# ---- limits ---------------------------------------------------------------------------------------------------------


def test_limits_are_judged_with_room():
    """If this fails, the rates in width blame plain NumPy, or decide nothing."""
    first = ladders.first_rung("cnn", 1, ("tanh",))
    right = subject_of(PlainArchitectures)
    for name in ("energy", "gradient"):  # of the same networks
        m = REGISTRY[f"architecture.cnn-{name}-rate-in-width"].measure(right, first)
        assert m.inconclusive is None, m
        assert m.margin < 0.7, m
