r"""Laws of CNNs and transformers: energies, feedforward pass and gradients match their definition.

A law is stated once and registered for each kind of network that `Capabilities.architectures` may claim, under the name
`architecture.cnn-...` and `architecture.transformer-...`: whoever claims one kind is judged on it, and a kind that
nothing judged cannot pass.  Expectation and allowance come from `pcbench.oracle.architectures`, entry by entry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pcbench.laws.definition import Domain, Measure, Measurement, law
from pcbench.laws.measuring.compare import compare_arrays, compare_numbers
from pcbench.oracle import architectures as oracle
from pcbench.oracle.running_error import Rounded
from pcbench.problem.architecture import KINDS, Architecture, leaves
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.worker.subject import Subject

NAMES = {"cnn": "Residual CNNs", "transformer": "Transformers"}
ANY = Domain(parameterisations=("mupc", "sp", "mupc-limits"), batch=2, steps=(1, 6))
"""Every problem; samples come in twos at least, so that one can be told from the others."""
CONTRACT = ("answers-keep-the-contract",)


def for_each_kind(
    name: str,
    *,
    statement: str,
    citation: str,
    failing_means: str,
    needs: tuple[str, ...] = (),
    domain: Domain = ANY,
    depends_on: tuple[str, ...] = CONTRACT,
    ladder: bool = False,
    estimates: int = 0,
    kinds: tuple[str, ...] = KINDS,
) -> Callable[[Measure], Measure]:
    """Register the decorated measurement as `architecture.KIND-NAME` for each kind; `ladder` is that of the kind."""

    def register(measure: Measure) -> Measure:
        for kind in kinds:
            law(
                f"architecture.{kind}-{name}",
                statement=f"{NAMES[kind]}: {statement}",
                citation=citation,
                failing_means=failing_means,
                needs=needs,
                domain=replace(domain, kind=kind),
                depends_on=tuple(f"architecture.{kind}-{other}" for other in depends_on),
                ladder=kind if ladder else "",
                estimates=estimates,
            )(measure)
        return measure

    return register


def case(problem: ArchitectureProblem) -> tuple[Architecture, np.ndarray, np.ndarray]:
    """The network, input and target of a problem."""
    return problem.architecture(), problem.input(), problem.target()


# ---- contract ---------------------------------------------------------------------------------------------------


@for_each_kind(
    "answers-keep-the-contract",
    statement="every answer has the structure, shapes and dtype of the protocol, and no array that is given changes.",
    citation="pcbench protocol",
    failing_means="activities or gradients structured otherwise than declared, float64 for float32, an in-place update",
    depends_on=(),
)
def answers_keep_the_contract(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """`pcbench.worker.subject` refuses what has another form; the worker compares arrays before and after a call."""
    network, x, y = case(problem)
    z, touched = problem.activities(), list[str]()
    calls: dict[str, Callable[[], Any]] = {
        "predict": lambda: subject.predict(network, x),
        "infer": lambda: subject.infer(network, x, y, 1, problem.step_size),
    }
    if "start" in subject.offers:
        calls["infer from start"] = lambda: subject.infer(network, x, y, 1, problem.step_size, z)
    if "energy-at-activities" in subject.offers:
        calls["energy"] = lambda: subject.energy(network, x, y, z)
    for name in ("layer_energies", "activity_gradients", "weight_gradients"):
        if name.replace("_", "-") in subject.offers:
            calls[name] = lambda name=name: getattr(subject, name)(network, x, y, z)
    for name, ask in calls.items():
        ask()
        touched += [f"{name}: {array}" for array in subject.modified]
    return Measurement(error=float(len(touched)), allowance=0.5, details={"modified": ", ".join(touched)})


# ---- energy -----------------------------------------------------------------------------------------------------


@for_each_kind(
    "energy-matches-definition",
    statement="F = (1/B) sum_b [1/2 sum_{l<L} |z_l - f_l(z_{l-1})|^2 + lambda loss(y, f_L)] at any activities.",
    citation="arXiv 2602.07697; pcbench.problem.architecture",
    failing_means="a mean over pixels or tokens in place of a sum, a layer left out, another padding, scaling or axis",
    needs=("energy-at-activities",),
)
def energy_matches(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """At random activities, where every term counts."""
    network, x, y = case(problem)
    z = problem.activities()
    return compare_numbers(subject.energy(network, x, y, z), *oracle.energy(network, x, y, z))


@for_each_kind(
    "layer-energies-match-definition",
    statement="the energy of layer l is (1/2B) sum_b |eps_l|^2, the last lambda times the mean loss.",
    citation="pcbench.problem.architecture",
    failing_means="two layers merged or swapped, a layer without parameters left out, one normalised otherwise",
    needs=("layer-energies",),
)
def layer_energies_match(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Layer by layer."""
    network, x, y = case(problem)
    z = problem.activities()
    expected, bounds = oracle.layer_energies(network, x, y, z)
    return compare_arrays([subject.layer_energies(network, x, y, z)], [expected], [bounds])


# ---- the feedforward pass ---------------------------------------------------------------------------------------


@for_each_kind(
    "feedforward-errors-are-zero",
    statement="at the feedforward pass every hidden prediction error is 0.",
    citation="theory E1",
    failing_means="activities of another start, or predictions in the pass that differ from those in the energy",
    needs=("zero-steps",),
)
def errors_are_zero(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Each layer is predicted from the implementation's own layer below: nothing accumulates."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    predicted = own_predictions(network, x, z)[:-1]
    return compare_arrays(z, [f.value for f in predicted], [f.error for f in predicted])


def own_predictions(network: Architecture, x: np.ndarray, z: list[np.ndarray]) -> list[Rounded]:
    r"""\(f_1 \dots f_L\) at activities that an implementation made in the same pass.

    It may compute a layer a second time where the next one needs it, and round otherwise than in what it returns;
    normalisation of a few nearly equal numbers makes that visible.
    """
    first = oracle.predictions(network, x, z)
    below = [Rounded(np.asarray(a, np.float64), f.error, f.dtype) for a, f in zip(z, first[:-1], strict=True)]
    return [first[0], *(oracle.prediction(network, l, b) for l, b in enumerate(below, start=2))]


@for_each_kind(
    "prediction-continues-the-activities",
    statement="the prediction is the output layer's prediction from the last feedforward activities, f_L(z_{L-1}).",
    citation="pcbench.problem.architecture",
    failing_means="pixels ravelled in another order, a readout scaled otherwise, probabilities in place of logits",
    needs=("zero-steps",),
    depends_on=("feedforward-errors-are-zero",),
)
def prediction_continues(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """One layer only, so that the bound is sharp at any depth."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    top = own_predictions(network, x, z)[-1]
    return compare_arrays([subject.predict(network, x)], [top.value], [2 * top.error])


@for_each_kind(
    "feedforward-energy-is-the-loss",
    statement="at the feedforward pass the energy is lambda times the loss, summed over tokens, mean over samples.",
    citation="arXiv 2602.07697; theory E1",
    failing_means="energy and loss normalised differently, such as a mean over tokens in one of them",
    needs=("energy-at-activities", "zero-steps"),
    depends_on=("prediction-continues-the-activities",),
)
def feedforward_energy(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """The loss is taken at the implementation's own prediction, the energy at its own pass."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    loss, uncertain = own_loss(network, x, y, subject.predict(network, x), z)
    _, bound = oracle.energy(network, x, y, z)
    return compare_numbers(subject.energy(network, x, y, z), loss, 2 * bound + uncertain)


def own_loss(
    network: Architecture, x: np.ndarray, y: np.ndarray, output: np.ndarray, z: list[np.ndarray]
) -> tuple[float, float]:
    r"""\(\lambda\) times the mean loss of an implementation's output, which it made from `z`, and a bound."""
    off = 2 * own_predictions(network, x, z)[-1].error
    loss = oracle.sample_loss(network, y, Rounded(output, off, str(network.dtype)))
    return network.precision * float(np.mean(loss.value)), network.precision * float(np.mean(loss.error))


# ---- gradients --------------------------------------------------------------------------------------------------


@for_each_kind(
    "activity-gradients-match-definition",
    statement="B dF/dz_l = eps_l - (df_{l+1}/dz_l)^T eps_{l+1} for every sample, at any activities.",
    citation="theory section 2",
    failing_means="a convolution in place of its transpose, a softmax differentiated over a wrong axis, a lost skip",
    needs=("activity-gradients",),
)
def activity_gradients_match(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Every entry, against the reverse mode of the definition."""
    network, x, y = case(problem)
    z = problem.activities()
    return compare_arrays(subject.activity_gradients(network, x, y, z), *oracle.activity_gradients(network, x, y, z))


@for_each_kind(
    "weight-gradients-match-definition",
    statement="dF/dtheta_l = -(1/B) sum_b (df_l/dtheta_l)^T eps_l at any activities, for every kernel and matrix.",
    citation="theory section 2",
    failing_means="a kernel's gradient averaged over pixels, one matrix of a block forgotten, a scaling or 1/B lost",
    needs=("weight-gradients",),
)
def weight_gradients_match(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Every entry, against the reverse mode of the definition."""
    network, x, y = case(problem)
    z = problem.activities()
    found = leaves(subject.weight_gradients(network, x, y, z))
    return compare_arrays(found, *oracle.weight_gradients(network, x, y, z))


@for_each_kind(
    "feedforward-gradient-is-the-readouts",
    statement="at the feedforward pass only the output layer has a weight gradient, and it is backpropagation's.",
    citation="theory E1; paper facts P9",
    failing_means="hidden errors that are not zero before inference, or gradients taken through the whole network",
    needs=("weight-gradients", "zero-steps"),
    depends_on=("weight-gradients-match-definition",),
)
def readout_only(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Hidden layers against 0, within the rounding of the pass and of what it may compute a second time."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    found = leaves(subject.weight_gradients(network, x, y, z))
    exact, bounds = oracle.weight_gradients(network, x, y, z)
    expected = [*(np.zeros_like(g) for g in exact[:-1]), exact[-1]]
    pairs = zip(own_predictions(network, x, z), oracle.predictions(network, x, z), strict=True)
    wider = max(float(np.max(own.error) / max(np.max(given.error), 1e-300)) for own, given in pairs)
    return compare_arrays(found, expected, [max(2.0, wider) * b for b in bounds])
