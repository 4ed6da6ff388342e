r"""Laws of the feedforward pass, where inference starts."""

from __future__ import annotations

from pcbench.laws.definition import Measurement, law
from pcbench.laws.measuring.compare import case, compare_arrays
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject

CONTRACT = ("contract.shapes-and-dtypes",)


@law(
    "feedforward.errors-are-zero",
    statement="At the feedforward pass every hidden prediction error is 0.",
    citation="theory E1",
    failing_means="activities initialised at random, or predictions in the pass that differ from those in the energy",
    needs=("zero-steps",),
    depends_on=CONTRACT,
)
def errors_are_zero(subject: Subject, problem: Problem) -> Measurement:
    """Each layer is predicted by the oracle from the implementation's own layer below: nothing accumulates."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    predicted = oracle.predictions(network, x, z)[:-1]
    return compare_arrays(z, predicted, rounding.error_bounds(network, x, y, z)[:-1])


@law(
    "feedforward.prediction-matches-definition",
    statement=r"The prediction is f_L(f_{L-1}(... f_1(x))).",
    citation="theory section 1",
    failing_means="a wrong activation, placement, scaling or skip, or a transposed weight",
    depends_on=CONTRACT,
)
def prediction_matches(subject: Subject, problem: Problem) -> Measurement:
    """Against the oracle, with each layer's rounding carried through the layers above."""
    network, x, _ = case(problem)
    return compare_arrays(
        [subject.predict(network, x)], [oracle.predict(network, x)], [rounding.prediction_bounds(network, x)]
    )


@law(
    "feedforward.prediction-continues-the-activities",
    statement=r"The prediction is the output layer's prediction from the last feedforward activities, f_L(z_{L-1}).",
    citation="theory section 1; Bogacz-Group/PredictiveCoding issue 4",
    failing_means="prediction and inference built from two different forward passes",
    needs=("zero-steps",),
    depends_on=CONTRACT,
)
def prediction_continues(subject: Subject, problem: Problem) -> Measurement:
    """One layer only, so the bound is sharp at any depth."""
    network, x, y = case(problem)
    z = subject.infer(network, x, y, 0, problem.step_size).activities
    top = oracle.layer_prediction(network, network.depth, z[-1])
    # the implementation may keep its last activities in registers of another rounding than those it returns
    bound = 2 * rounding.prediction_error_bound(network, network.depth, z[-1])
    return compare_arrays([subject.predict(network, x)], [top], [bound])
