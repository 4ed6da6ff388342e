r"""Law of ReLU equilibria: where inference comes to rest on kinks, the energy falls in no direction.

Inference at a fixed step size does not end there; it chatters.  But a step is \(z^{k+1} = z^k - \eta g_k\) with the
gradient \(g_k\) of the piece in which \(z^k\) lies, so for the weights \(w\) of a window, two means of H steps one
after the other,

\[\sum_k w_k\,g_k = \frac{1}{H^2\eta}\sum_{k<H}(z^k - z^{k+H}),\]

whatever happened in between.  At a point \(\tilde z\) where every unit that changes side in the window is on its kink
and the others on their side, the gradients \(g_k(\tilde z)\) of those pieces have a mean inside the subdifferential:

\[\mathrm{dist}(0, \partial F(\tilde z)) \le \Big\|\sum_k w_k\,(g_k(\tilde z) - g_k)\Big\|
+ \frac{1}{H^2\eta}\Big\|\sum_{k<H}(z^k - z^{k+H})\Big\| .\]

Convergence is nowhere presumed: inference that still moves has a bound that is not small, and decides nothing.
"""

from __future__ import annotations

import numpy as np

from pcbench import theory
from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import BLIND, case, no_decision, step_bounds
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Activities, Network
from pcbench.worker.subject import Subject

LONG, SHORT = 400, 60
"""Steps from the feedforward pass, and further ones with an eighth of the step, which chatter an eighth as far."""
HALF = 8
"""Steps of each of the two means: what a unit chatters by enters the bound divided by its square."""


@law(
    "equilibrium.relu-is-one-sided-stationary",
    statement=(
        "Where long inference of a relu net comes to rest, chattering at kinks included, no direction lowers the "
        "energy: 0 is in the subdifferential."
    ),
    citation="theory section 3, ReLU equilibria sit on kinks; pcbench.theory.one_sided",
    failing_means="inference that rests elsewhere than at a minimum: a wrong slope of relu, or a stop before the end",
    needs=("start", "simultaneous"),
    domain=Domain(
        activations=("relu",), dtypes=("float64",), depth=(2, 5), batch=3, parameterisations=("mupc", "ntp"),
        weight_laws=("gaussian", "orthogonal"), weight_scales=(1.0, 0.3), data_laws=("gaussian",),
        output_multipliers=(1.0, 0.5), costly=True,
    ),
    depends_on=("inference.step-follows-definition",),
)  # fmt: skip
def relu_is_one_sided_stationary(subject: Subject, problem: Problem) -> Measurement:
    """The worst sample of those at rest; 2.5 times the bound is allowed, which a moving sample attains."""
    network, x, y = case(problem)
    states, step = _window(subject, network, x, y)
    weights = np.convolve(np.full(HALF, 1 / HALF), np.full(HALF, 1 / HALF))
    middle = [np.tensordot(weights, np.stack(layer[: len(weights)]), 1) for layer in zip(*states, strict=True)]
    sides = [np.stack(layer) for layer in zip(*(_sides(network, z) for z in states[: len(weights)]), strict=True)]
    crossing = [s.any(axis=0) & ~s.all(axis=0) for s in sides]
    result = theory.one_sided_residual(
        network, x, y, middle, width_of_kink=[np.where(c, np.inf, 0.0) for c in crossing]
    )
    # a sample counts where the units on their kink are those that cross and the move has taken no other across
    counts = np.ones(len(x), bool)
    for c, k, s, there in zip(crossing, result.at_kink, sides, _sides(network, result.activities), strict=True):
        counts &= np.all((c == k) & (c | (s[0] == there)), axis=1)

    def gradient(at: Activities, piece: Activities) -> Activities:
        return theory.gradient_of_piece(network, x, y, at, piece=piece)

    bend = [np.zeros_like(z) for z in middle]
    for w, z in zip(weights, states, strict=False):
        pairs = zip(bend, gradient(result.activities, z), gradient(z, z), strict=True)
        bend = [b + w * (there - here) for b, there, here in pairs]
    drift = [
        np.sum(np.stack(layer[:HALF]) - np.stack(layer[HALF:]), axis=0) / (HALF**2 * step)
        for layer in zip(*states, strict=True)
    ]
    rounding = _norms(step_bounds(network, x, y, states[-1], step)) / step
    allowed = 2.5 * (_norms(bend) + _norms(drift)) + 4 * rounding
    scale = _norms(oracle.weighted_errors(network, x, y, result.activities))
    decided = counts & ((allowed <= BLIND * scale) | (result.residual > allowed))
    if not decided.any():
        return no_decision("no sample has come to rest", moving=float(np.min(allowed / np.maximum(scale, 1e-300))))
    ratio = np.where(decided, result.residual / np.maximum(allowed, 1e-300), -1.0)
    worst = int(np.argmax(ratio))
    kinks = sum(int(k[decided].sum()) for k in result.at_kink)
    return Measurement(
        error=float(result.residual[worst]), allowance=float(allowed[worst]),
        details={"units on kinks": kinks, "samples at rest": int(decided.sum()), "errors": float(scale[worst])},
    )  # fmt: skip


def _window(subject: Subject, network: Network, x: np.ndarray, y: np.ndarray) -> tuple[list[Activities], float]:
    """Activities of `2 * HALF` successive steps after long inference, and their step size."""
    steepest = max(
        abs(tau) + float(np.linalg.norm(W, 2))
        for W, tau in zip(network.effective_weights()[1:], network.skips[1:], strict=True)
    )
    step = 1.5 / ((1 + steepest) ** 2 * max(1.0, network.precision))  # stable on every piece below 2 / lambda_max
    z = subject.infer(network, x, y, LONG, step).activities
    states = [subject.infer(network, x, y, SHORT, step / 8, z).activities]
    while len(states) < 2 * HALF:
        states.append(subject.infer(network, x, y, 1, step / 8, states[-1]).activities)
    return states, step / 8


def _sides(network: Network, z: Activities) -> list[np.ndarray]:
    """Which units are open, per layer of what relu acts on and inference can move."""
    if network.placement == "before-weight":
        return [a > 0 for a in z]
    return [a @ W.T > 0 for a, W in zip(z[:-1], network.effective_weights()[1:-1], strict=True)]


def _norms(parts: list[np.ndarray]) -> np.ndarray:
    """The norm of each sample over all layers, `(batch,)`."""
    return np.sqrt(np.sum([np.sum(np.square(p), axis=1) for p in parts], axis=0))
