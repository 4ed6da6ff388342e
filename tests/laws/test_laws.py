"""The laws as a set: what each states, that ids and dependencies hold, and that a correct implementation passes each.

Whether wrong implementations fail them is measured by the mutants.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
from pcbench.properties.mlp import configurations

from pcbench.adapters.numpy import NumpyPCN
from pcbench.errors import AdapterError, ContractError, UsageError
from pcbench.laws import REGISTRY, Domain, Law, Measurement, select, transitive_dependencies
from pcbench.laws import definition as base_module
from pcbench.laws.measuring import ladders
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Capabilities, Inference, Manifest
from pcbench.worker.client import InProcess
from pcbench.worker.subject import Subject
from tests.laws.mutants import MUTANTS

# Ids are stable: reports, known failures and command lines name them.  Adding a law means adding it here.
IDS = [
    "architecture.cnn-activity-gradients-match-definition",
    "architecture.cnn-answers-keep-the-contract",
    "architecture.cnn-claimed-equilibrium-is-stationary",
    "architecture.cnn-energy-matches-definition",
    "architecture.cnn-energy-rate-in-width",
    "architecture.cnn-equilibrium-energy-is-the-energy-there",
    "architecture.cnn-equilibrium-gradient-is-the-total-derivative",
    "architecture.cnn-equilibrium-is-not-above-the-loss",
    "architecture.cnn-feedforward-energy-is-the-loss",
    "architecture.cnn-feedforward-errors-are-zero",
    "architecture.cnn-feedforward-gradient-is-the-readouts",
    "architecture.cnn-gradient-rate-in-width",
    "architecture.cnn-layer-energies-match-definition",
    "architecture.cnn-linear-equilibrium-is-the-closed-form",
    "architecture.cnn-prediction-continues-the-activities",
    "architecture.cnn-samples-are-independent",
    "architecture.cnn-signal-front",
    "architecture.cnn-step-follows-definition",
    "architecture.cnn-steps-follow-each-other",
    "architecture.cnn-weight-gradients-match-definition",
    "architecture.transformer-activity-gradients-match-definition",
    "architecture.transformer-answers-keep-the-contract",
    "architecture.transformer-claimed-equilibrium-is-stationary",
    "architecture.transformer-energy-matches-definition",
    "architecture.transformer-energy-rate-in-width",
    "architecture.transformer-equilibrium-energy-is-the-energy-there",
    "architecture.transformer-equilibrium-gradient-is-the-total-derivative",
    "architecture.transformer-equilibrium-is-not-above-the-loss",
    "architecture.transformer-feedforward-energy-is-the-loss",
    "architecture.transformer-feedforward-errors-are-zero",
    "architecture.transformer-feedforward-gradient-is-the-readouts",
    "architecture.transformer-gradient-rate-in-width",
    "architecture.transformer-layer-energies-match-definition",
    "architecture.transformer-prediction-continues-the-activities",
    "architecture.transformer-samples-are-independent",
    "architecture.transformer-signal-front",
    "architecture.transformer-step-follows-definition",
    "architecture.transformer-steps-follow-each-other",
    "architecture.transformer-weight-gradients-match-definition",
    "contract.cross-entropy-finite-at-large-logits",
    "contract.deterministic",
    "contract.deterministic-across-processes",
    "contract.goes-on-after-an-error",
    "contract.inputs-unmodified",
    "contract.nan-is-not-hidden",
    "contract.shapes-and-dtypes",
    "contract.target-has-two-axes",
    "energy.affine-in-output-precision",
    "energy.feedforward-equals-loss",
    "energy.is-a-mean-over-samples",
    "energy.layer-energies-match-definition",
    "energy.layers-sum-to-total",
    "energy.matches-definition",
    "energy.never-negative",
    "energy.scales-quadratically",
    "equilibrium.claimed-is-stationary",
    "equilibrium.closed-form-is-stationary",
    "equilibrium.cross-entropy-is-a-moreau-envelope",
    "equilibrium.energy-bounds",
    "equilibrium.energy-is-the-closed-form",
    "equilibrium.energy-never-below-the-minimum",
    "equilibrium.energy-reported-is-the-energy-there",
    "equilibrium.errors-are-a-backward-pass",
    "equilibrium.gradient-is-the-total-derivative",
    "equilibrium.monotone-in-output-precision",
    "equilibrium.not-above-the-loss",
    "equilibrium.relu-is-one-sided-stationary",
    "equilibrium.theory-is-a-fixed-point",
    "equilibrium.weak-precision-gives-backprop",
    "equilibrium.weight-gradients-are-the-closed-form",
    "feedforward.errors-are-zero",
    "feedforward.prediction-continues-the-activities",
    "feedforward.prediction-matches-definition",
    "gradient.activities-differentiate-the-energy",
    "gradient.activities-match-definition",
    "gradient.feedforward-output-only",
    "gradient.local-in-space",
    "gradient.reported-with-inference",
    "gradient.scaling-folds-into-weights",
    "gradient.small-error-step-is-backprop",
    "gradient.weights-differentiate-the-energy",
    "gradient.weights-local-in-space",
    "gradient.weights-match-definition",
    "inference.batch-size-changes-nothing",
    "inference.energy-reported-with-inference",
    "inference.first-arrival",
    "inference.samples-are-independent",
    "inference.scales-with-the-data",
    "inference.signal-front",
    "inference.step-descends-the-reported-energy",
    "inference.step-follows-definition",
    "inference.steps-compose",
    "inference.trajectory-follows-definition",
    "inference.zero-residual-is-a-fixed-point",
    "inference.zero-steps-return-the-start",
    "learning.fixed-prediction-is-backprop",
    "learning.update-is-rate-times-gradient",
    "learning.zero-divergence-is-backprop",
    "limit.coordinates-in-depth",
    "limit.coordinates-in-width",
    "limit.direction-rate-in-width",
    "limit.energy-converges-to-loss",
    "limit.energy-rate-in-depth",
    "limit.energy-rate-in-width",
    "limit.gradient-converges-in-direction",
    "limit.gradient-converges-in-norm",
    "limit.gradient-rate-in-depth",
    "limit.gradient-rate-in-width",
    "limit.nonlinear-rates-in-width",
    "limit.parameterisations-are-stable-together",
    "limit.training-follows-backprop",
    "limit.training-tends-to-mean-field",
    "limit.width-equal-to-depth-does-not-converge",
    "precision.float32-follows-float64",
    "precision.no-retrace-on-equal-shapes",
    "saddle.origin-is-strict",
    "stability.differences-contract",
    "stability.energy-falls-below-the-threshold",
    "stability.hessian-is-block-tridiagonal",
    "stability.hessian-is-symmetric-positive-definite",
    "stability.orthogonal-chain-spectrum",
    "stability.threshold-is-sharp",
    "symmetry.hidden-permutation",
    "symmetry.hidden-rotation",
    "symmetry.output-multiplier",
    "symmetry.sign-of-odd-activations",
]

# Those of CNNs and transformers are in test_architecture_laws.
MLP = {id: law for id, law in REGISTRY.items() if law.domain.kind == "mlp"}


class Everything(NumpyPCN):
    """The plain implementation with every optional capability, so that no law is left out."""

    manifest = replace(
        NumpyPCN.manifest,
        capabilities=replace(NumpyPCN.manifest.capabilities, reports_energy=True, reports_gradients=True),
    )

    def infer(self, network, input, target, steps, step_size, start=None):
        z = list(super().infer(network, input, target, steps, step_size, start).activities)
        return Inference(
            activities=z,
            energy=self.energy(network, input, target, z),
            weight_gradients=self.weight_gradients(network, input, target, z),
        )

    def compilations(self):
        return 0


@pytest.fixture(scope="module")
def everything():
    """Shared by all laws: each makes its own arrays."""
    return Subject(InProcess(Everything()), respawn=lambda: InProcess(Everything()))


def fixed_problems(law):
    """A few small problems of a law's domain, with settings taken in turn instead of drawn."""
    if law.ladder:
        yield ladders.first_rung(law.ladder, 0, Everything.manifest.capabilities.activations)
        return
    d = law.domain
    chosen = configurations(d, Everything.manifest.capabilities, 0, 16)
    named = [p for p in d.parameterisations if p != "general"]
    for i, c in enumerate(chosen[: 1 if d.large else 6]):

        def pick(values, i=i):
            return values[i % len(values)]

        yield c.problem(
            parameterisation=pick(named), weight_law=pick(d.weight_laws),
            weight_scale=pick(d.weight_scales[:2]), data_law=pick(d.data_laws), data_scale=pick(d.data_scales),
            output_precision=pick(d.output_precisions), output_multiplier=pick(d.output_multipliers), seed=i,
            steps=min(max(d.steps[0], 3), d.steps[1]), step_size=0.05,
        )  # fmt: skip


# ---- each law -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", MLP.values(), ids=MLP)
def test_a_correct_implementation_passes_with_room(law, everything):
    """If this fails, the law blames a correct implementation, or its allowance is as tight as rounding."""
    assert law.not_applicable_reason(everything) is None
    decided = 0
    for p in fixed_problems(law):
        assert law.domain.admits(p), p.line()
        m = law.measure(everything, p)
        assert math.isfinite(m.allowance)
        assert m.allowance >= 0
        if m.inconclusive is None:
            decided += 1
            assert m.margin < 0.5, f"{p.line()}: {m}"
        else:
            assert m.inconclusive.strip()
    assert decided


@pytest.mark.parametrize("law", MLP.values(), ids=MLP)
def test_measurements_repeat(law, everything):
    """If this fails, a law draws numbers that its problem does not pin, and a replay shows something else."""
    p = next(iter(fixed_problems(law)))
    first, second = law.measure(everything, p), law.measure(everything, p)
    assert (first.margin, first.inconclusive) == (second.margin, second.inconclusive)


@pytest.mark.parametrize("law", REGISTRY.values(), ids=REGISTRY)
def test_every_law_says_what_it_is(law):
    """If this fails, a scientist who reads a report cannot tell what failed, whence it comes and where to look."""
    for text in (law.statement, law.citation, law.failing_means):
        assert text == text.strip()
        assert "\n" not in text
    assert len(law.statement) >= 20
    assert law.statement.endswith(".")
    assert len(law.citation) >= 3
    assert len(law.failing_means) >= 10
    group, _, name = law.id.partition(".")
    assert group.isalpha()
    assert name == name.lower()
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize("law", REGISTRY.values(), ids=REGISTRY)
def test_every_need_can_be_met(law, everything):
    """If this fails, a law needs a misspelt capability, and no implementation in the world is judged by it."""
    assert law.needs <= everything.offers


# ---- the set ------------------------------------------------------------------------------------------------------


def test_training_in_place_breaks_the_contract(subject_of):
    """If this fails, an optimiser that writes into the caller's weights is praised for not changing its inputs."""
    law, problem = REGISTRY["contract.inputs-unmodified"], Problem(input_dim=3, width=4, depth=3, output_dim=2, batch=2)
    assert law.measure(subject_of(), problem).margin == 0
    broken = law.measure(subject_of(MUTANTS["trains-in-place"].factory()), problem)
    assert broken.margin > 1
    assert "train: network" in broken.details["modified"]


def test_ids_are_stable():
    """If this fails, a law was added (add it above), or renamed or removed, which breaks what others have written."""
    assert sorted(REGISTRY) == IDS
    assert len(IDS) >= 35
    assert all(law.id == id for id, law in REGISTRY.items())


def test_dependencies_come_before_and_never_in_circles():
    """If this fails, a run waits for ever, or a law is blocked by one that comes after it."""
    order = list(REGISTRY)
    for law in REGISTRY.values():
        assert len(set(law.depends_on)) == len(law.depends_on)
        for name in law.depends_on:
            assert order.index(name) < order.index(law.id)
        assert law.id not in transitive_dependencies(law.id)


def test_a_law_needs_no_less_than_what_it_depends_on():
    """If this fails, a law can be blocked by one that was not applicable, so that nothing was ever shown."""
    for law in REGISTRY.values():
        for name in transitive_dependencies(law.id):
            assert REGISTRY[name].needs <= law.needs, (law.id, name)


def test_transitive_dependencies():
    """If this fails, one root cause is reported as many failures."""
    assert transitive_dependencies("contract.shapes-and-dtypes") == set()
    assert transitive_dependencies("contract.deterministic-across-processes") == {
        "contract.deterministic", "contract.shapes-and-dtypes",
    }  # fmt: skip
    for law in REGISTRY.values():
        expected = set(law.depends_on).union(*(transitive_dependencies(d) for d in law.depends_on))
        assert transitive_dependencies(law.id) == expected


# ---- choosing -----------------------------------------------------------------------------------------------------


def test_select():
    """If this fails, `--laws` judges others than those asked for."""
    everything = list(REGISTRY)
    assert [law.id for law in select()] == everything
    assert [law.id for law in select(["energy.never-negative"])] == ["energy.never-negative"]
    assert [law.id for law in select(["energy"])] == [i for i in everything if i.startswith("energy.")]
    assert [law.id for law in select(["*.zero-*", "saddle"])] == [
        "inference.zero-steps-return-the-start", "inference.zero-residual-is-a-fixed-point", "saddle.origin-is-strict",
        "learning.zero-divergence-is-backprop",
    ]  # fmt: skip
    backwards = select(["saddle", "energy.never-negative", "energy.never-negative"])
    assert [law.id for law in backwards] == ["energy.never-negative", "saddle.origin-is-strict"]
    assert [law.id for law in select(["*"])] == everything


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("energy.never-negatve", r"no law matches 'energy\.never-negatve'; did you mean energy\.never-negative"),
        ("energ", r"no law matches 'energ'"),
        ("zzzz", r"no law matches 'zzzz'; `pcbench laws` lists them"),
        ("", r"no law matches ''"),
        ("ENERGY", r"no law matches 'ENERGY'"),
    ],
)
def test_select_refuses_what_matches_nothing(pattern, message):
    """If this fails, a misspelt law is silently not judged, and the run is green."""
    with pytest.raises(UsageError, match=message):
        select([pattern])
    with pytest.raises(UsageError, match="no law matches"):
        select(["energy", pattern])


# ---- registering, domains, measurements ---------------------------------------------------------------------------


def test_registering(monkeypatch):
    """If this fails, two laws share an id, or a law depends on one that does not exist."""
    monkeypatch.setattr(base_module, "REGISTRY", {})
    words: dict[str, Any] = {"statement": "S.", "citation": "C", "failing_means": "M"}
    measure = base_module.law("a.b", **words)(lambda subject, problem: Measurement(error=0.0, allowance=1.0))
    assert base_module.REGISTRY["a.b"].measure is measure
    with pytest.raises(UsageError, match=r"law 'a\.b' is defined twice"):
        base_module.law("a.b", **words)(measure)
    with pytest.raises(UsageError, match=r"law 'a\.c' depends on 'a\.d', which is not defined before it"):
        base_module.law("a.c", depends_on=("a.d",), **words)(measure)


@pytest.mark.parametrize(
    ("error", "allowance", "inconclusive", "margin", "failed"),
    [
        (1.0, 2.0, None, 0.5, False), (2.0, 2.0, None, 1.0, False), (2.1, 2.0, None, 1.05, True),
        (math.nan, 1.0, None, math.inf, True), (1.0, math.nan, None, math.inf, True), (1.0, 0.0, None, math.inf, True),
        (0.0, 0.0, None, 0.0, False), (9.0, 1.0, "why", 9.0, False),
    ],
)  # fmt: skip
def test_measurements(error, allowance, inconclusive, margin, failed):
    """If this fails, NaN passes, or what decides nothing counts as a failure."""
    m = Measurement(error=error, allowance=allowance, inconclusive=inconclusive)
    assert m.margin == margin
    assert m.failed is failed


INSIDE = Problem(input_dim=3, width=5, depth=4, output_dim=2, batch=3, activation="tanh")


@pytest.mark.parametrize(
    "domain",
    [
        {"activations": ("linear",)}, {"placements": ("after-weight",)}, {"losses": ("ce",)}, {"dtypes": ("float32",)},
        {"residual": (True,)}, {"parameterisations": ("sp", "general")}, {"weight_laws": ("zero",)},
        {"data_laws": ("zero",)}, {"depth": (5, 8)}, {"depth": (2, 3)}, {"output_dim": 3}, {"batch": 4},
        {"scalar_output": True}, {"hidden_units": 14},
    ],
)  # fmt: skip
def test_domains_keep_out_what_they_do_not_name(domain):
    """If this fails, a law is judged where it does not hold."""
    assert Domain().admits(INSIDE)
    assert not Domain(**domain).admits(INSIDE)


def test_domains_let_in_what_they_name():
    """If this fails, problems are thrown away that the law speaks about."""
    assert Domain(hidden_units=15, depth=(4, 4), output_dim=2, batch=3, square=True).admits(INSIDE)
    assert not Domain(square=True).admits(INSIDE.replace(width=2))
    assert Domain(scalar_output=True).admits(INSIDE.replace(output_dim=1))


@pytest.mark.parametrize(
    ("changes", "capabilities", "reason"),
    [
        ({"needs": frozenset({"train", "a-thing"})}, {}, "needs a-thing, train"),
        ({"domain": Domain(activations=("tanh", "relu"))}, {}, "needs activation tanh or relu"),
        ({"domain": Domain(losses=("ce",))}, {}, "needs loss ce"),
        ({"domain": Domain(dtypes=("float32",))}, {}, "needs dtype float32"),
        ({"domain": Domain(residual=(True,))}, {}, "needs residual"),
        (
            {"domain": Domain(placements=("after-weight",), activations=("tanh",))},
            {"activations": ("tanh",)},
            "needs placement after-weight",
        ),
        ({"domain": Domain(residual=(True,))}, {"residual": True}, None),
        ({}, {}, None),
    ],
)
def test_what_an_implementation_lacks(changes, capabilities, reason):
    """If this fails, a law is judged that cannot be, or a claimed capability is skipped."""

    class Bare:
        manifest = Manifest(name="bare", capabilities=Capabilities(**capabilities))
        predict = energy = infer = NumpyPCN.predict

    law = Law(
        id="a.b",
        statement="S",
        citation="C",
        failing_means="M",
        measure=lambda s, p: Measurement(error=0.0, allowance=1.0),
        **changes,
    )
    assert law.not_applicable_reason(Subject(InProcess(Bare()))) == reason


def test_an_implementation_that_an_error_spoils_breaks_one_law():
    """If this fails, one key that an exception leaves behind makes every law after it an error."""

    class Spoilt(NumpyPCN):
        inside = False

        def predict(self, network, input):
            if self.inside:
                raise RuntimeError("a trace is already open")
            self.inside = True
            answer = super().predict(network, input)
            self.inside = False  # wrong: not in a finally
            return answer

    class Replaced(InProcess):
        starts = 1

        def restart(self):
            self._implementation, self.starts = Spoilt(), self.starts + 1

    transport = Replaced(Spoilt())
    subject = Subject(transport)
    goes_on, problem = REGISTRY["contract.goes-on-after-an-error"], INSIDE
    for _ in range(2):  # what the harness has learnt must not hide the defect
        with pytest.raises(ContractError, match="after a refused question: predict raised RuntimeError"):
            goes_on.measure(subject, problem)
    assert transport.starts == 3
    with pytest.raises(AdapterError):
        subject.predict(problem.network(), problem.input()[:, :1])
    assert transport.starts == 4
    assert subject.predict(problem.network(), problem.input()).shape == (problem.batch, problem.output_dim)
