r"""Laws of the contract: form of answers, untouched inputs, determinism, and behaviour after errors and NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from pcbench.errors import AdapterError, ContractError
from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import case, compare_numbers, perturbation_growth, step_bounds
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.worker.subject import Subject

Answers = list[tuple[str, list[np.ndarray]]]


def _questions(subject: Subject, network: Network, x: np.ndarray, y: np.ndarray, problem: Problem) -> Answers:
    """One answer of every method offered, as lists of arrays."""
    z = [np.asarray(a) for a in problem.activities()]
    answers: Answers = [("predict", [subject.predict(network, x)])]
    state = subject.infer(network, x, y, problem.steps, problem.step_size) if _can_infer(subject, problem) else None
    if state is not None:
        answers.append(("infer", state.activities))
    optional: tuple[tuple[str, Callable[[], list[np.ndarray]]], ...] = (
        ("energy-at-activities", lambda: [np.array(subject.energy(network, x, y, z))]),
        ("layer-energies", lambda: [subject.layer_energies(network, x, y, z)]),
        ("weight-gradients", lambda: subject.weight_gradients(network, x, y, z)),
        ("activity-gradients", lambda: subject.activity_gradients(network, x, y, z)),
    )
    answers += [(name, ask()) for name, ask in optional if name in subject.offers]
    return answers


def _can_infer(subject: Subject, problem: Problem) -> bool:
    return problem.steps > 0 or "zero-steps" in subject.offers


@law(
    "contract.shapes-and-dtypes",
    statement="Every answer has the shape, the dtype and the structure of the protocol, and is finite.",
    citation="pcbench protocol; the reduction contract of trueagi-io/FabricPC, pull request 43",
    failing_means="an energy reduced over the wrong axes, a list in the wrong form, or a silent change of precision",
)
def shapes_and_dtypes(subject: Subject, problem: Problem) -> Measurement:
    """`Subject` checks each answer and raises `ContractError`, which is the failure.

    Only what every implementation offers is asked here: a defect in an optional method must not block other laws.
    """
    network, x, y = case(problem)
    subject.predict(network, x)
    if _can_infer(subject, problem):
        subject.infer(network, x, y, problem.steps, problem.step_size)
    if "energy-at-activities" in subject.offers:
        subject.energy(network, x, y, problem.activities())
    return Measurement(error=0.0, allowance=1.0)


@law(
    "contract.inputs-unmodified",
    statement="No method changes the arrays that it is given.",
    citation="pcbench protocol",
    failing_means="an in-place update (+=) on an array that belongs to the caller",
    depends_on=("contract.shapes-and-dtypes",),
)
def inputs_unmodified(subject: Subject, problem: Problem) -> Measurement:
    """The worker compares every array it was sent before and after the call."""
    network, x, y = case(problem)
    z = problem.activities()
    touched: list[str] = []
    calls: list[tuple[str, Callable[[], Any]]] = [("predict", lambda: subject.predict(network, x))]
    if _can_infer(subject, problem):
        calls.append(("infer", lambda: subject.infer(network, x, y, problem.steps, problem.step_size)))
    if "start" in subject.offers:
        calls.append(("infer from start", lambda: subject.infer(network, x, y, 1, problem.step_size, z)))
    if "energy-at-activities" in subject.offers:
        calls.append(("energy", lambda: subject.energy(network, x, y, z)))
    if "weight-gradients" in subject.offers:
        calls.append(("weight_gradients", lambda: subject.weight_gradients(network, x, y, z)))
    if "activity-gradients" in subject.offers:
        calls.append(("activity_gradients", lambda: subject.activity_gradients(network, x, y, z)))
    if "layer-energies" in subject.offers:
        calls.append(("layer_energies", lambda: subject.layer_energies(network, x, y, z)))
    if "train" in subject.offers:
        calls.append(("train", lambda: subject.train(network, x, y, 1, 0.01, 1, problem.step_size)))
    for name, ask in calls:
        ask()
        touched += [f"{name}: {array}" for array in subject.modified]
    return Measurement(error=float(len(touched)), allowance=0.5, details={"modified": ", ".join(touched)})


def _repeatability(first: Answers, second: Answers, problem: Problem) -> Measurement:
    """Two sets of answers to the same questions: rounding is forgiven, bitwise equality is reported."""
    network, x, y = case(problem)
    z = [np.asarray(a, np.float64) for a in problem.activities()]
    bounds: dict[str, Callable[[], float]] = {
        "predict": lambda: norm(rounding.prediction_bounds(network, x)),
        "infer": lambda: norm(step_bounds(network, x, y, z, problem.step_size))
        * (1 + problem.steps) * perturbation_growth(network, x, y, z, problem.step_size) ** problem.steps,
        "energy-at-activities": lambda: rounding.energy_bound(network, x, y, z),
        "layer-energies": lambda: float(rounding.layer_energy_bounds(network, x, y, z).sum()),
        "weight-gradients": lambda: norm(rounding.weight_gradient_bounds(network, x, y, z)),
        "activity-gradients": lambda: norm(rounding.activity_gradient_bounds(network, x, y, z)),
    }  # fmt: skip
    worst = Measurement(error=0.0, allowance=1.0)
    exact = True
    for (name, a), (_, b) in zip(first, second, strict=True):
        error = norm([u - v for u, v in zip(a, b, strict=True)])
        exact = exact and error == 0
        if error:
            candidate = Measurement(error=error, allowance=2 * bounds[name](), details={"method": name})
            worst = max(worst, candidate, key=lambda m: m.margin)
    details = {**worst.details, "bitwise": "yes" if exact else "no"}
    return Measurement(error=worst.error, allowance=worst.allowance, details=details)


@law(
    "contract.deterministic",
    statement="The same questions have the same answers, also after other questions in between.",
    citation="pcbench protocol; the global state of ngc-learn contexts and of PCX's random key generator",
    failing_means="hidden state between calls, or randomness that is not part of the problem",
    depends_on=("contract.shapes-and-dtypes",),
)
def deterministic(subject: Subject, problem: Problem) -> Measurement:
    """Ask, ask something else, ask again."""
    first = _questions(subject, *case(problem), problem)
    _ask_about_another(subject, problem)
    return _repeatability(first, _questions(subject, *case(problem), problem), problem)


@law(
    "contract.deterministic-across-processes",
    statement="A new process gives the same answers as one that has answered about another network of equal shape.",
    citation="pcbench protocol; ngc-learn 3.2 answers a context of a name that is taken with the old one",
    failing_means="what was made for an earlier network is taken again, or a default seed comes from the clock, hash "
    "or memory order",
    needs=("second-process",),
    domain=Domain(costly=True),
    depends_on=("contract.deterministic",),
)
def deterministic_across_processes(subject: Subject, problem: Problem) -> Measurement:
    """Ask here about another network and then about this one; ask about this one alone in a fresh process.

    What is kept from the first network answers wrongly about all later ones, and always in the same way, so that to
    ask twice in one process does not show it.
    """
    _ask_about_another(subject, problem)
    here = _questions(subject, *case(problem), problem)
    return _repeatability(here, _questions(subject.second_process(), *case(problem), problem), problem)


def _ask_about_another(subject: Subject, problem: Problem) -> None:
    """The same questions about a problem of equal shape with other weights and data."""
    other = problem.replace(seed=problem.seed ^ 0x5DEECE66D)
    _questions(subject, *case(other), other)


@law(
    "contract.goes-on-after-an-error",
    statement="After a question that cannot be answered, the next ones have the same answers as before it.",
    citation="pcbench protocol; PCX 0.6.3 leaves a tracer in its global random key when a transformed function raises",
    failing_means="global state that an exception leaves half changed: a poisoned key, an open context, a wrong mode",
    domain=Domain(costly=True),
    depends_on=("contract.deterministic",),
)
def goes_on_after_an_error(subject: Subject, problem: Problem) -> Measurement:
    """Ask; ask for the prediction, and for inference, from an input that is one unit too wide; ask again.

    Where the law is broken, the process begins anew, here and after every later error: one defect, one broken law.
    """
    network, x, y = case(problem)
    fragile, subject.fragile = subject.fragile, False  # what is known must not hide the defect from this law
    spoiled = False
    try:
        first = _questions(subject, network, x, y, problem)
        wide = np.concatenate([x, x[:, :1]], axis=1)
        refused = 0
        for ask in (
            lambda: subject.predict(network, wide),
            lambda: subject.infer(network, wide, y, max(problem.steps, 1), problem.step_size),
        ):
            try:
                ask()
            except (ContractError, AdapterError):
                refused += 1
        spoiled = True
        try:
            second = _questions(subject, network, x, y, problem)
        except AdapterError as error:
            raise ContractError(f"after a refused question: {error}") from error
        measured = _repeatability(first, second, problem)
        spoiled = measured.failed
        return replace(measured, details={**measured.details, "refused": f"{refused} of 2"})
    finally:
        subject.fragile = fragile or spoiled
        if spoiled:
            subject.forget()


@law(
    "contract.nan-is-not-hidden",
    statement="A NaN in the input of one sample never comes out as a finite energy.",
    citation="pcbench protocol",
    failing_means="nan_to_num, a nan-ignoring mean, or a comparison that drops the bad sample",
    needs=("energy-at-activities",),
    domain=Domain(weight_laws=("gaussian",), weight_scales=(1.0,), data_laws=("gaussian",)),
    depends_on=("contract.shapes-and-dtypes",),
)
def nan_is_not_hidden(subject: Subject, problem: Problem) -> Measurement:
    """Raising is as good as returning NaN; a finite number is the failure."""
    network, x, y = case(problem)
    x = x.copy()
    x[0, 0] = np.nan
    try:
        energy = subject.energy(network, x, y, problem.activities())
    except (ContractError, AdapterError):
        return Measurement(error=0.0, allowance=0.5)
    return Measurement(error=1.0, allowance=0.5, details={"energy": energy})


@law(
    "contract.target-has-two-axes",
    statement="A target of shape (batch,) is refused or read as (batch, 1), never broadcast to (batch, batch).",
    citation="paper facts P37; jpc 1.0.0 returns 2.47 in place of 0.44 for such a target",
    failing_means="an unchecked subtraction of arrays of different rank",
    needs=("energy-at-activities",),
    domain=Domain(losses=("mse",), scalar_output=True, batch=2, costly=True, data_laws=("gaussian",)),
    depends_on=("contract.shapes-and-dtypes",),
)
def target_has_two_axes(subject: Subject, problem: Problem) -> Measurement:
    """The energy with the flat target is the oracle's with the column, or an error."""
    network, x, y = case(problem)
    z = problem.activities()
    try:
        energy = subject.energy(network, x, y[:, 0], z)
    except (ContractError, AdapterError):
        return Measurement(error=0.0, allowance=1.0, details={"outcome": "refused"})
    expected = oracle.energy(network, x, y, z)
    return compare_numbers(energy, expected, rounding.energy_bound(network, x, y, z))


@law(
    "contract.cross-entropy-finite-at-large-logits",
    statement="The cross-entropy energy is finite and right where the logits are of size 10^4.",
    citation="paper facts P38; jpc 1.0.0 computes log(softmax(x)) in its loss",
    failing_means="log(softmax(x)) or exp without subtracting the maximum",
    needs=("energy-at-activities", "ce"),
    domain=Domain(
        costly=True,
        losses=("ce",), activations=("linear", "relu", "softplus", "silu", "gelu", "gelu-tanh"), output_dim=2,
        placements=("before-weight",), weight_laws=("gaussian",), weight_scales=(1.0,), data_scales=(1.0,),
    ),
    depends_on=("contract.shapes-and-dtypes",),
)  # fmt: skip
def finite_at_large_logits(subject: Subject, problem: Problem) -> Measurement:
    """The last activities are scaled until the logits spread over 10^4."""
    network, x, y = case(problem)
    z = problem.activities()
    spread = float(np.ptp(oracle.layer_prediction(network, network.depth, np.asarray(z[-1], np.float64))))
    if spread == 0:
        return Measurement(error=0.0, allowance=1.0, inconclusive="the logits are all equal")
    z[-1] = np.asarray(z[-1] * (1e4 / spread), problem.dtype)
    expected = oracle.energy(network, x, y, z)
    return compare_numbers(
        subject.energy(network, x, y, z), expected, rounding.energy_bound(network, x, y, z), spread=spread
    )
