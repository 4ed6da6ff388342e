"""Conventions undone, answers checked, offers and refusals: what stands between an implementation and the laws."""

# Values of wrong types are handed over on purpose.
# pyright: reportArgumentType=false

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pcbench.adapters.numpy import NumpyPCN
from pcbench.errors import ContractError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.protocol.implementation import Capabilities, Conventions, Equilibrium, Inference, Manifest, methods_of
from pcbench.worker.subject import Subject

PROBLEM = Problem(
    input_dim=3, width=5, depth=4, output_dim=2, batch=6, activation="tanh", residual=True, output_precision=2.0,
    output_multiplier=0.5, seed=9, step_size=0.05, steps=3,
)  # fmt: skip
CONVENTIONS = [
    {"energy_reduction": "sum"},
    {"energy_factor": 2.0},
    {"energy_factor": -1.0, "energy_reduction": "sum"},
    {"step_size": "batch-mean"},
    {"activity_order": "output-first"},
    {"layer_energy_order": "output-first"},
    {"layer_energy_order": "output-first", "energy_factor": 0.5, "energy_reduction": "sum"},
    {"gradient_sign": -1},
    {"gradient_reduction": "sum"},
    {"gradient_sign": -1, "gradient_reduction": "sum", "weight_layout": "in-out"},
    {"weight_layout": "in-out"},
    {"activity_gradient_sign": -1},
    {"activity_gradient_reduction": "mean"},
    {"activity_gradient_reduction": "mean", "activity_gradient_sign": -1, "activity_order": "output-first"},
]


class Direct:
    """A transport without any check of its own, so that the subject's are the only ones."""

    def __init__(self, implementation):
        self.implementation = implementation
        self.manifest = implementation.manifest
        self.methods = methods_of(implementation)
        self.last_meta = {}
        self.closed = False

    def call(self, method, *args, **kwargs):
        return getattr(self.implementation, method)(*args, **kwargs)

    def close(self):
        self.closed = True


class Odd:
    """The plain implementation, answering in other conventions, and reporting energy and gradients with inference."""

    def __init__(self, scalings="native", **conventions):
        self.right = NumpyPCN()
        self.c = Conventions(**conventions)
        capabilities = replace(
            NumpyPCN.manifest.capabilities, scalings=scalings, reports_energy=True, reports_gradients=True
        )
        self.manifest = Manifest(name="odd", capabilities=capabilities, conventions=self.c)

    def reorder(self, z):
        return z if z is None or self.c.activity_order == "input-first" else list(z)[::-1]

    def of_energy(self, value, batch):
        return self.c.energy_factor * value * (batch if self.c.energy_reduction == "sum" else 1)

    def of_gradients(self, gradients, batch):
        factor = self.c.gradient_sign * (batch if self.c.gradient_reduction == "sum" else 1)
        return [factor * (g.T if self.c.weight_layout == "in-out" else g) for g in gradients]

    def step(self, step_size, batch):
        return step_size / batch if self.c.step_size == "batch-mean" else step_size

    def predict(self, network, input):
        return self.right.predict(network, input)

    def energy(self, network, input, target, activities):
        return self.of_energy(self.right.energy(network, input, target, self.reorder(activities)), len(input))

    def layer_energies(self, network, input, target, activities):
        values = self.of_energy(self.right.layer_energies(network, input, target, self.reorder(activities)), len(input))
        return values[::-1] if self.c.layer_energy_order == "output-first" else values

    def infer(self, network, input, target, steps, step_size, start=None):
        step = self.step(step_size, len(input))
        z = self.right.infer(network, input, target, steps, step, self.reorder(start)).activities
        energy = self.of_energy(self.right.energy(network, input, target, z), len(input))
        gradients = self.of_gradients(self.right.weight_gradients(network, input, target, z), len(input))
        return Inference(activities=self.reorder(z), energy=energy, weight_gradients=gradients)

    def weight_gradients(self, network, input, target, activities):
        gradients = self.right.weight_gradients(network, input, target, self.reorder(activities))
        return self.of_gradients(gradients, len(input))

    def activity_gradients(self, network, input, target, activities):
        gradients = self.right.activity_gradients(network, input, target, self.reorder(activities))
        divisor = len(input) if self.c.activity_gradient_reduction == "mean" else 1
        return self.reorder([self.c.activity_gradient_sign * g / divisor for g in gradients])

    def equilibrium(self, network, input, target):
        found = self.right.equilibrium(network, input, target)
        return replace(
            found, activities=self.reorder(found.activities), energy=self.of_energy(found.energy, len(input))
        )  # fmt: skip

    def train(self, network, input, target, iterations, learning_rate, steps, step_size):
        step = self.step(step_size, len(input))
        weights = self.right.train(network, input, target, iterations, learning_rate, steps, step)
        return [w.T if self.c.weight_layout == "in-out" else w for w in weights]

    def fixed_prediction_gradients(self, network, input, target):
        return self.of_gradients(self.right.fixed_prediction_gradients(network, input, target), len(input))


def close(got, expected):
    for g, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("scalings", ["native", "folded"])
@pytest.mark.parametrize("conventions", [{}, *CONVENTIONS], ids=str)
def test_every_convention_is_undone(conventions, scalings):
    """If this fails, an implementation is blamed for a convention that it declared."""
    s = Subject(Direct(Odd(scalings, **conventions)))
    p = PROBLEM
    n, x, y, z = p.network(), p.input(), p.target(), p.activities()
    close([s.predict(n, x)], [oracle.predict(n, x)])
    assert s.energy(n, x, y, z) == pytest.approx(oracle.energy(n, x, y, z), rel=1e-13)
    close([s.layer_energies(n, x, y, z)], [oracle.layer_energies(n, x, y, z).mean(axis=0)])
    close(s.weight_gradients(n, x, y, z), oracle.weight_gradients(n, x, y, z))
    close(s.activity_gradients(n, x, y, z), oracle.activity_gradients(n, x, y, z))
    close(s.variant_gradients("fixed_prediction_gradients", n, x, y), oracle.backprop_gradients(n, x, y))
    for start in (None, z):
        expected = oracle.infer(n, x, y, 3, 0.05, start)
        state = s.infer(n, x, y, 3, 0.05, start)
        close(state.activities, expected)
        assert state.energy == pytest.approx(oracle.energy(n, x, y, expected), rel=1e-12)
        close(state.weight_gradients, oracle.weight_gradients(n, x, y, expected))
    claimed = s.equilibrium(n, x, y)
    assert max(np.abs(g).max() for g in oracle.activity_gradients(n, x, y, claimed.activities)) < 1e-9
    assert claimed.energy == pytest.approx(oracle.energy(n, x, y, claimed.activities), rel=1e-12)
    assert claimed.outcome == "converged"
    sent = s.as_sent(n)
    trained = s.train(n, x, y, 1, 0.1, 3, 0.05)
    at = oracle.infer(sent, x, y, 3, 0.05)
    close(trained, [w - 0.1 * g for w, g in zip(sent.weights, oracle.weight_gradients(sent, x, y, at), strict=True)])


def test_the_list_of_conventions_is_complete():
    """If this fails, a convention was added to the vocabulary that no test undoes."""
    by_laws = {"energy_lag", "update_order", "gradient_point"}  # these say what an answer is, and the laws follow
    assert {name for c in CONVENTIONS for name in c} | by_laws == set(vars(Conventions()))


def test_folding_reaches_the_implementation():
    """If this fails, an implementation without scalings is given some, or one with scalings loses them."""
    seen = {}

    class Spy(NumpyPCN):
        def predict(self, network, input):
            seen["scalings"] = network.scalings
            return super().predict(network, input)

    n = PROBLEM.network()
    Subject(Direct(Spy())).predict(n, PROBLEM.input())
    assert seen["scalings"] == n.scalings
    Spy.manifest = replace(Spy.manifest, capabilities=replace(Spy.manifest.capabilities, scalings="folded"))
    Subject(Direct(Spy())).predict(n, PROBLEM.input())
    assert seen["scalings"] == (1.0,) * 4


def test_answers_are_float64_copies():
    """If this fails, laws compute in the implementation's precision, or write into its buffers."""
    p = PROBLEM.replace(dtype="float32")
    n, x, y = p.network(), p.input(), p.target()
    buffer = np.zeros((6, 2), np.float32)

    class Keeps(NumpyPCN):
        def predict(self, network, input):
            return buffer

    s = Subject(Direct(Keeps()))
    answer = s.predict(n, x)
    assert answer.dtype == np.float64
    answer[:] = 1
    assert not buffer.any()
    assert {a.dtype for a in s.infer(n, x, y, 1, 0.1).activities} == {np.dtype(np.float64)}


def test_activities_are_sent_as_fresh_copies_in_the_right_dtype():
    """If this fails, an implementation that overwrites its start destroys what the law compares with."""
    p = PROBLEM.replace(dtype="float32")
    n, x, y = p.network(), p.input(), p.target()
    z = [a.astype(np.float64) for a in p.activities()]
    before = [a.copy() for a in z]

    class Overwrites(NumpyPCN):
        def infer(self, network, input, target, steps, step_size, start=None):
            assert start is not None
            assert {a.dtype for a in start} == {np.dtype(np.float32)}
            for a in start:
                a[:] = 0
            return Inference(activities=start)

    Subject(Direct(Overwrites())).infer(n, x, y, 1, 0.1, z)
    assert all(np.array_equal(a, b) for a, b in zip(z, before, strict=True))


# ---- contracts ----------------------------------------------------------------------------------------------------


def zeros(*shape, dtype=np.float64):
    return np.zeros(shape, dtype)


NAN = np.full((6, 5), np.nan)
HIDDEN = [zeros(6, 5)] * 3
WEIGHTS = [zeros(5, 3), zeros(5, 5), zeros(5, 5), zeros(2, 5)]
VIOLATIONS = [
    ("predict", zeros(2, 6), r"predict returned shape \(2, 6\): needed \(6, 2\)"),
    ("predict", zeros(6), r"predict returned shape \(6,\): needed \(6, 2\)"),
    ("predict", [[0.0] * 2] * 6, r"predict returned list .*: needed a NumPy array of shape \(6, 2\)"),
    ("predict", None, r"predict returned NoneType None: needed a NumPy array"),
    ("predict", zeros(6, 2, dtype=np.float32), r"predict returned float32: needed float64, the dtype of the weights"),
    ("predict", zeros(6, 2, dtype=np.int64), r"predict returned int64: needed float64"),
    ("predict", np.array([[np.nan, np.inf]] * 6), r"predict returned 12 of 12 values that are not finite"),
    ("energy", zeros(6), r"energy returned shape \(6,\): needed a single number, reduced over the batch"),
    ("energy", "much", r"energy returned str 'much': needed a number"),
    ("energy", None, r"energy returned NoneType None: needed a number"),
    ("energy", float("nan"), r"energy returned nan: needed a finite number"),
    ("energy", np.float32("inf"), r"energy returned inf: needed a finite number"),
    ("layer_energies", zeros(3), r"layer_energies returned shape \(3,\): needed \(4,\)"),
    ("layer_energies", [0.0] * 4, r"layer_energies returned list .*: needed a NumPy array"),
    ("layer_energies", zeros(4, dtype=int), r"layer_energies returned int64: needed float64"),
    ("infer", HIDDEN, r"infer returned list: needed pcbench\.Inference"),
    ("infer", Inference(activities=HIDDEN[:2]), r"infer returned 2 arrays: needed 3, one per hidden layer"),
    (
        "infer",
        Inference(activities=zeros(3, 6, 5)),
        r"infer returned an array of shape \(3, 6, 5\): needed a list of 3 arrays, one per hidden",
    ),
    (
        "infer",
        Inference(activities=[zeros(6, 5), zeros(5, 6), zeros(6, 5)]),
        r"infer, hidden layer 2 returned shape \(5, 6\): needed \(6, 5\)",
    ),
    (
        "infer",
        Inference(activities=[zeros(6, 5), zeros(6, 5), NAN]),
        r"infer, hidden layer 3 returned 30 of 30 values that are not finite",
    ),
    ("infer", Inference(activities=HIDDEN, energy=zeros(6)), r"infer \(energy\) returned shape \(6,\)"),  # type: ignore[arg-type]
    (
        "infer",
        Inference(activities=HIDDEN, weight_gradients=WEIGHTS[:3]),
        r"infer \(weight_gradients\) returned 3 arrays: needed 4, one per weight matrix",
    ),
    ("weight_gradients", WEIGHTS[:3], r"weight_gradients returned 3 arrays: needed 4, one per weight matrix"),
    (
        "weight_gradients",
        [w.T for w in WEIGHTS],
        r"weight_gradients, layer 1 returned shape \(3, 5\): needed \(5, 3\), .* transposed ones declare 'in-out'",
    ),
    ("weight_gradients", {"1": 0}, r"weight_gradients returned dict .*: needed a list of 4 arrays"),
    (
        "activity_gradients",
        [zeros(6, 5, dtype=np.float32)] * 3,
        r"activity_gradients, hidden layer 1 returned float32: needed float64",
    ),
    ("activity_gradients", [*HIDDEN, zeros(6, 2)], r"activity_gradients returned 4 arrays: needed 3"),
    ("equilibrium", (HIDDEN, 0.0), r"equilibrium returned tuple: needed pcbench\.Equilibrium"),
    ("equilibrium", Equilibrium(activities=HIDDEN, energy=float("inf")), r"equilibrium \(energy\) returned inf"),
    ("equilibrium", Equilibrium(activities=[NAN] * 3), r"equilibrium, hidden layer 1 returned 30 of 30 values"),
    ("train", WEIGHTS[::-1], r"train, layer 1 returned shape \(2, 5\): needed \(5, 3\)"),
    ("train", None, r"train returned NoneType None: needed a list of 4 arrays, one per weight matrix"),
    ("fixed_prediction_gradients", WEIGHTS[:1], r"fixed_prediction_gradients returned 1 arrays: needed 4"),
    ("compilations", 1.5, r"compilations returned 1\.5: needed an integer"),
    ("compilations", True, r"compilations returned True: needed an integer"),
]


@pytest.mark.parametrize(("method", "answer", "message"), VIOLATIONS)
def test_violations_of_the_contract_are_reported_in_a_sentence(method, answer, message):
    """If this fails, a malformed answer reaches a law, which fails with NumPy's words or passes by broadcasting."""
    wrong = NumpyPCN()
    setattr(wrong, method, lambda *args: answer)
    s = Subject(Direct(wrong))
    n, x, y, z = PROBLEM.network(), PROBLEM.input(), PROBLEM.target(), PROBLEM.activities()
    calls = {
        "predict": lambda: s.predict(n, x),
        "energy": lambda: s.energy(n, x, y, z),
        "layer_energies": lambda: s.layer_energies(n, x, y, z),
        "infer": lambda: s.infer(n, x, y, 2, 0.1),
        "weight_gradients": lambda: s.weight_gradients(n, x, y, z),
        "activity_gradients": lambda: s.activity_gradients(n, x, y, z),
        "equilibrium": lambda: s.equilibrium(n, x, y),
        "train": lambda: s.train(n, x, y, 1, 0.1, 1, 0.1),
        "fixed_prediction_gradients": lambda: s.variant_gradients("fixed_prediction_gradients", n, x, y),
        "compilations": s.compilations,
    }
    with pytest.raises(ContractError, match=message):
        calls[method]()


def test_numbers_may_come_as_any_kind_of_number():
    """If this fails, a correct adapter must convert what float() converts."""
    for value in (1, 1.5, np.float32(1.5), np.array(1.5), np.int64(2)):
        right = NumpyPCN()
        vars(right)["energy"] = lambda *args, value=value: value
        s = Subject(Direct(right))
        assert s.energy(PROBLEM.network(), PROBLEM.input(), PROBLEM.target(), []) == float(value)
    right = NumpyPCN()
    vars(right)["compilations"] = lambda: np.int64(3)
    assert Subject(Direct(right)).compilations() == 3


# ---- offers, refusals, processes ----------------------------------------------------------------------------------


def subject_claiming(**capabilities):
    implementation = NumpyPCN()
    implementation.manifest = Manifest(name="x", capabilities=Capabilities(**capabilities))
    return Subject(Direct(implementation))


def test_offers():
    """If this fails, a law is skipped that was claimed, or asked of an implementation that cannot answer."""
    full = Subject(Direct(NumpyPCN()))
    assert {
        "weight-gradients", "activity-gradients", "layer-energies", "equilibrium", "train", "start", "zero-steps",
        "energy-at-activities", "precision", "residual", "native-scalings", "simultaneous", "linear", "nonlinear",
        "mse", "ce", "float32", "float64",
    } <= full.offers  # fmt: skip
    assert not {"reported-energy", "reported-gradients", "second-process", "compilations"} & full.offers
    bare = SimpleNamespace(manifest=Manifest(name="bare"), predict=None, energy=None, infer=None)
    assert Subject(Direct(bare)).offers == {
        "start", "zero-steps", "energy-at-activities", "simultaneous", "linear", "mse", "float64",
    }  # fmt: skip
    assert "second-process" in Subject(Direct(NumpyPCN()), lambda: Direct(NumpyPCN())).offers
    assert {"reported-energy", "reported-gradients"} <= Subject(Direct(Odd())).offers
    assert "simultaneous" not in Subject(Direct(Odd(update_order="input-first"))).offers


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, r"activation='tanh' is not claimed \(claimed: linear\)"),
        ({"activation": "linear", "loss": "ce"}, r"loss='ce' is not claimed \(claimed: mse\)"),
        ({"activation": "linear", "dtype": "float32"}, r"dtype='float32' is not claimed \(claimed: float64\)"),
        ({"activation": "linear"}, r"residual=True is not claimed"),
        ({"activation": "linear", "residual": False}, r"output_precision=2.0 is not claimed, only 1"),
        ({"activation": "linear", "residual": False, "output_precision": 1.0}, None),
        ({"activation": "linear", "residual": True, "depth": 2, "output_precision": 1.0}, None),
    ],
)
def test_refusals(changes, reason):
    """If this fails, an implementation is judged on what it does not claim, or spared what it does."""
    refused = subject_claiming().refuses(PROBLEM.replace(**changes))
    assert refused == (reason and reason.replace("\\", ""))


def test_placement_matters_only_to_nonlinear_networks():
    """If this fails, a library with activations after the weight is spared all linear networks."""
    s = subject_claiming(placements=("after-weight",), activations=("linear", "tanh"), residual=True, precision=True)
    assert s.refuses(PROBLEM) == "placement='before-weight' is not claimed (claimed: after-weight)"
    assert s.refuses(PROBLEM.replace(activation="linear")) is None
    assert s.refuses(PROBLEM.replace(placement="after-weight")) is None


def test_a_second_process():
    """If this fails, laws that compare processes compare one with itself, or processes outlive the subject."""
    first, started = Direct(NumpyPCN()), []

    def respawn():
        started.append(Direct(NumpyPCN()))
        return started[-1]

    s = Subject(first, respawn)
    other = s.second_process()
    assert other is s.second_process()
    assert other.transport is started[0]
    assert other.transport is not first
    s.close()
    assert first.closed
    assert started[0].closed
    with pytest.raises(ContractError, match="no second process can be started"):
        Subject(first).second_process()


def test_calls_and_time_are_counted_also_when_they_fail():
    """If this fails, the report hides where a run's time went."""
    wrong = NumpyPCN()

    def predict(network, input):
        time.sleep(0.002)
        raise ZeroDivisionError

    wrong.predict = predict
    s = Subject(Direct(wrong))
    with pytest.raises(ZeroDivisionError):
        s.predict(PROBLEM.network(), PROBLEM.input())
    s.energy(PROBLEM.network(), PROBLEM.input(), PROBLEM.target(), PROBLEM.activities())
    assert s.calls == 2
    assert s.seconds >= 0.002


def test_modified_inputs_are_those_of_the_last_call():
    """If this fails, one call's overwriting is blamed on another."""
    t = Direct(NumpyPCN())
    s = Subject(t)
    t.last_meta = {"inputs_modified": ["input"]}
    s.predict(PROBLEM.network(), PROBLEM.input())
    assert s.modified == ["input"]
    t.last_meta = {}
    s.predict(PROBLEM.network(), PROBLEM.input())
    assert s.modified == []
