r"""Laws of wide CNNs and transformers: rates at which energy and gradient approach those of backpropagation.

Under `mupc` with width \(N\) (channels, or numbers a token) the readout is of order \(1/N\) and every other layer keeps
the size of what passes through it, so the excess \(S - I\) of `pcbench.laws.limit.rates` is of order \(1/N\) as in an
MLP: the loss exceeds the equilibrated energy by \(O(1/N)\) and the gradients differ by \(O(1/N)\). There is no theorem
for attention; the rates are those of the linear case found again where equilibrium is certified (W7). The control
divides the readout by \(\sqrt N\) in place of \(N\): its excess does not fall, and an energy or a gradient that
converged there would be backpropagation's, whatever the network.

**Bands.** Measured with the reference over the ladders below (tanh and gelu, softmax and linear attention, with and
without normalisation): exponents of the energy excess -0.9 to -1.1, of the gradient's relative error -0.75 to -1.05,
which saturates at the smallest width, and -0.1 to 0.1 for both under the control.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from pcbench.laws.architecture.energy_and_gradients import case, for_each_kind
from pcbench.laws.architecture.equilibrium import certify
from pcbench.laws.definition import SMOOTH, Domain, Measurement
from pcbench.laws.measuring.ladders import architecture_rungs
from pcbench.laws.measuring.statistics import Estimate, experiment, slope
from pcbench.laws.measuring.wide_networks import remember
from pcbench.oracle import architectures as oracle
from pcbench.oracle.numerics import norm
from pcbench.problem.architecture import leaves
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.worker.subject import Subject

CERTIFIED = 1e-9
"""The largest certified gap F - F*, relative to the loss, at which an observation counts."""
LANCZOS = 4
"""Products for the curvature: under `mupc`, and where only the readout is larger, the Hessian is near the identity."""
DOMAIN = Domain(activations=SMOOTH, losses=("mse",), dtypes=("float64",), parameterisations=("mupc",))


@dataclass(frozen=True, kw_only=True)
class Observation:
    r"""One network: \(\mathrm{loss}/F^* - 1\), the gradient's relative error, and \(1 - \cos\) without cancellation."""

    problem: ArchitectureProblem
    energy_excess: float
    gradient_error: float
    misalignment: float


def observe_network(subject: Subject, problem: ArchitectureProblem) -> Observation | str:
    """One network as the implementation shows it at its own equilibrium, or why there is no certificate."""
    return remember(subject, "architecture", problem, lambda: _observe_network(subject, problem))


def _observe_network(subject: Subject, problem: ArchitectureProblem) -> Observation | str:
    network, x, y = case(problem)
    answer = subject.equilibrium(network, x, y)
    if answer.outcome != "converged":
        return "the solver did not claim convergence"
    loss = float(np.mean(oracle.sample_loss(network, y, oracle.feedforward(network, x)[-1]).value))
    gap_bound = certify(network, x, y, answer.activities, LANCZOS).gap_bound
    if not gap_bound <= CERTIFIED * loss:
        return f"no certificate of equilibrium: F - F* is bounded by {gap_bound / loss:.1e} of the loss"
    energy = subject.energy(network, x, y, answer.activities)
    found = leaves(subject.weight_gradients(network, x, y, answer.activities))
    backprop, _ = oracle.backpropagation(network, x, y)
    units = [[g / norm(side) for g in side] for side in (found, backprop)]
    return Observation(
        problem=problem,
        energy_excess=loss / energy - 1,
        gradient_error=norm([g - b for g, b in zip(found, backprop, strict=True)]) / norm(backprop),
        misalignment=0.5 * norm([a - b for a, b in zip(*units, strict=True)]) ** 2,
    )


def width_exponent(
    name: str, quantity: str, seen: list[Observation], expected: float, band: float, detect: float
) -> Estimate:
    """The exponent in N of one quantity; the variance of its logarithm falls as 1/N."""
    widths = [o.problem.width for o in seen]
    values = [getattr(o, quantity) for o in seen]
    return slope(name, widths, values, weights=widths, expected=expected, band=band, detect=detect)


def measure_ladder(
    subject: Subject,
    first: ArchitectureProblem,
    estimates: Callable[[list[Observation], list[Observation]], list[Estimate]],
) -> Measurement:
    """Random networks at every width, under `mupc` and under the control, until the estimates decide."""
    rungs = architecture_rungs(first)

    def draw(start: int, end: int) -> tuple[list[Observation], list[str]]:
        found: list[Observation] = []
        lost: list[str] = []
        for number in range(start, end):
            for rung in rungs:
                seed = Random(f"{rung.line()} {number}").getrandbits(64)
                for multiplier in (1.0, rung.width**-0.5):
                    seen = observe_network(subject, rung.replace(seed=seed, output_multiplier=multiplier))
                    (lost if isinstance(seen, str) else found).append(seen)  # type: ignore[arg-type]
        return found, lost

    def both(seen: Sequence[Observation]) -> list[Estimate]:
        under = [o for o in seen if o.problem.output_multiplier == 1]
        return estimates(under, [o for o in seen if o.problem.output_multiplier != 1])

    return experiment(draw, both, [rung.shape for rung in rungs])


@for_each_kind(
    "energy-rate-in-width",
    statement="under mupc loss/F* - 1 falls as 1/N; with a readout of N^-1/2 it does not fall.",
    citation="arXiv 2602.07697; theory W2, W7",
    failing_means="a scaling off by a power of the width, or an equilibrium declared before it is reached",
    needs=("equilibrium", "energy-at-activities", "weight-gradients"),
    domain=DOMAIN,
    depends_on=("energy-matches-definition", "claimed-equilibrium-is-stationary"),
    ladder=True,
    estimates=2,
)
def energy_rate(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Exponents in N of the energy excess."""

    def estimates(mupc: list[Observation], control: list[Observation]) -> list[Estimate]:
        return [
            width_exponent("exponent of loss/F* - 1", "energy_excess", mupc, -1.0, band=0.2, detect=0.7),
            width_exponent("exponent with a readout of N^-1/2", "energy_excess", control, 0.05, band=0.2, detect=0.7),
        ]

    return measure_ladder(subject, problem, estimates)


@for_each_kind(
    "gradient-rate-in-width",
    statement="under mupc |grad F* - grad loss| / |grad loss| falls as 1/N and 1 - cos as 1/N^2; with a readout of "
    "N^-1/2 the former does not fall.",
    citation="arXiv 2602.07697; theory W3, W4, W7",
    failing_means="a gradient off by a constant, or one layer's weighted otherwise than the others'",
    needs=("equilibrium", "energy-at-activities", "weight-gradients"),
    domain=DOMAIN,
    depends_on=("weight-gradients-match-definition", "claimed-equilibrium-is-stationary"),
    ladder=True,
    estimates=3,
)
def gradient_rate(subject: Subject, problem: ArchitectureProblem) -> Measurement:
    """Norm and direction together: cosine alone improves with width under the control too."""

    def estimates(mupc: list[Observation], control: list[Observation]) -> list[Estimate]:
        return [
            width_exponent("exponent of the gradient error", "gradient_error", mupc, -0.9, band=0.2, detect=0.65),
            width_exponent("exponent of 1 - cos", "misalignment", mupc, -1.85, band=0.4, detect=1.2),
            width_exponent("exponent with a readout of N^-1/2", "gradient_error", control, 0.0, band=0.2, detect=0.65),
        ]

    return measure_ladder(subject, problem, estimates)
