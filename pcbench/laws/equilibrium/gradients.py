r"""Laws of the equilibrium's dependence on weights, output precision and loss."""

from __future__ import annotations

import numpy as np

from pcbench import theory
from pcbench.laws.definition import SMOOTH, Domain, Measurement, law
from pcbench.laws.equilibrium.closed_form import ENERGY, LINEAR, NOT_CERTIFIED, certified_energy
from pcbench.laws.measuring.compare import (
    BLIND,
    case,
    compare_states,
    derivative_of,
    direction,
    inner,
    no_decision,
    step_along,
)
from pcbench.laws.measuring.equilibrium import CertifiedActivities, certified_equilibrium, theory_slack
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.worker.subject import Subject


@law(
    "equilibrium.gradient-is-the-total-derivative",
    statement=r"At equilibrium the local weight gradients are the total derivative of F*(W).",
    citation="theory E4 (envelope theorem), L1; paper facts P17",
    failing_means="weight gradients evaluated at activities other than the equilibrium",
    needs=("weight-gradients",),
    domain=Domain(activations=("linear",), losses=("mse",), dtypes=("float64",), weight_scales=(1.0, 0.3),
                  data_scales=(1.0,), ),
    depends_on=("gradient.weights-match-definition",),
)  # fmt: skip
def gradient_is_total_derivative(subject: Subject, problem: Problem) -> Measurement:
    """The right side differentiates the closed form by central differences: no local rule takes part."""
    network, x, y = case(problem)
    settled = certified_equilibrium(subject, problem, network, x, y)
    gradients = subject.weight_gradients(network, x, y, settled.activities)
    size = max(float(np.abs(w).max()) for w in network.weights) or 1.0
    along = [size * v / np.sqrt(v.shape[0]) for v in direction(problem, "envelope direction", network.weights)]
    h = 1e-3
    values = {
        offset: theory.equilibrium_energy(network.with_weights(step_along(network.weights, offset, along)), x, y)
        for offset in (h, -h, h / 2, -h / 2)
    }
    slope, uncertain = derivative_of(values, h, theory_slack(network) * max(values.values()))
    uncertain += inner(rounding.weight_gradient_bounds(network, x, y, settled.activities), [np.abs(v) for v in along])
    uncertain += _gradient_shift(network, x, y, settled) * norm(along)
    slack = uncertain > BLIND * max(abs(slope), norm(gradients) * norm(along) * 0.01)
    return Measurement(
        error=abs(inner(gradients, along) - slope), allowance=uncertain,
        details={"local": inner(gradients, along), "total": slope},
        inconclusive=NOT_CERTIFIED if slack else None,
    )  # fmt: skip


def _gradient_shift(network: Network, x: np.ndarray, y: np.ndarray, settled: CertifiedActivities) -> float:
    r"""How far weight gradients may be from those at equilibrium: \(\frac{a_l}{B}\) times the certified distances."""
    distance = settled.certificate.distance_bound
    if distance is None:
        return float("inf")
    d = float(np.linalg.norm(distance))
    z = [np.asarray(x, np.float64), *settled.activities]
    errors = oracle.weighted_errors(network, x, y, settled.activities)
    total, carried = 0.0, 0.0
    maps = [np.linalg.norm(w, 2) for w in network.effective_weights()]
    for l in range(1, network.depth + 1):
        a = abs(network.scalings[l - 1]) / len(x)
        error_shift = d if l < network.depth else network.precision * maps[-1] * carried
        total += (a * (error_shift * norm(z[l - 1]) + norm(errors[l - 1]) * carried)) ** 2
        carried = (abs(network.skips[l - 1]) + float(maps[l - 1])) * carried + d
    return float(np.sqrt(total))


@law(
    "equilibrium.weight-gradients-are-the-closed-form",
    statement=r"At the equilibrium of a linear net dF*/dW_l = -(a_l/B) sum_b (J_l^T S^-1 r_b) z*_{l-1}^T.",
    citation="theory L2; paper facts section 3.1, P32",
    failing_means="hidden gradients that use the feedforward activities, or errors of another time",
    needs=("weight-gradients",),
    domain=LINEAR,
    depends_on=("gradient.weights-match-definition",),
)
def weight_gradients_closed_form(subject: Subject, problem: Problem) -> Measurement:
    """In the norm of all layers together."""
    network, x, y = case(problem)
    settled = certified_equilibrium(subject, problem, network, x, y)
    gradients = subject.weight_gradients(network, x, y, settled.activities)
    exact = theory.equilibrium_weight_gradients(network, x, y)
    bound = norm(rounding.weight_gradient_bounds(network, x, y, settled.activities))
    bound += _gradient_shift(network, x, y, settled) + 4 * theory_slack(network) * norm(exact)
    return compare_states(gradients, exact, bound, source=settled.source)


@law(
    "equilibrium.cross-entropy-is-a-moreau-envelope",
    statement=(
        r"With cross-entropy a linear net has F* = mean_b min_v [loss(yhat_b + v) + v^T M^-1 v / 2], M = "
        r"sum_l J_l J_l^T."
    ),
    citation="theory L7; paper facts section 3.2, P18",
    failing_means="an output error other than y - softmax, or a loss averaged over classes",
    needs=("energy-at-activities", "ce"),
    domain=Domain(activations=("linear",), losses=("ce",), output_dim=2, weight_scales=(1.0, 0.3), costly=True),
    depends_on=ENERGY,
)
def cross_entropy_envelope(subject: Subject, problem: Problem) -> Measurement:
    """A K-dimensional Newton problem per sample against the implementation's own equilibrium."""
    network, x, y = case(problem)
    reason, settled, energy, slack = certified_energy(subject, problem)
    if reason:
        return reason
    exact = float(np.mean(theory.solve_envelope(network.astype("float64"), x.astype(float), y.astype(float)).energies))
    # the envelope's own error: its Newton iteration ends at 1e-13 of the loss
    allowance = slack + 1e-11 * network.precision * oracle.loss(network, x, y)
    return Measurement(
        error=abs(energy - exact), allowance=allowance,
        details={"energy": energy, "envelope": exact, "source": settled.source},
    )  # fmt: skip


@law(
    "equilibrium.monotone-in-output-precision",
    statement=r"The equilibrated energy does not fall when the output precision rises.",
    citation="theory L9; paper facts P7",
    failing_means="the precision applied to hidden layers, or inverted",
    needs=("energy-at-activities", "precision"),
    domain=LINEAR,
    depends_on=("energy.affine-in-output-precision",),
)
def monotone_in_precision(subject: Subject, problem: Problem) -> Measurement:
    """Precisions a factor of 2 apart."""
    reason, _, low, slack = certified_energy(subject, problem)
    if reason:
        return reason
    reason, _, high, more = certified_energy(subject, problem.replace(output_precision=2 * problem.output_precision))
    if reason:
        return reason
    allowance = slack + more
    return Measurement(error=max(0.0, low - high), allowance=allowance, details={"at lambda": low, "at twice": high})


@law(
    "equilibrium.weak-precision-gives-backprop",
    statement=(
        r"As lambda -> 0 the equilibrium weight gradient over lambda tends to backpropagation's with an error "
        r"O(lambda)."
    ),
    citation="Scellier and Bengio 2017; theory L9; paper facts P28",
    failing_means="the precision missing from the gradient of the output layer, or present in others",
    needs=("weight-gradients", "precision", "equilibrium"),
    domain=Domain(activations=SMOOTH, dtypes=("float64",), weight_scales=(1.0, 0.3), data_scales=(1.0,),
                  weight_laws=("gaussian", "orthogonal"), output_precisions=(1.0,), costly=True,
                  parameterisations=("mupc", "ntp")),
    depends_on=("equilibrium.claimed-is-stationary",),
)  # fmt: skip
def weak_precision_gives_backprop(subject: Subject, problem: Problem) -> Measurement:
    """The error must shrink about sixteenfold when the precision does; fourfold is demanded."""
    errors, slack, regime = [], 0.0, 0.0
    for precision in (1e-2, 6.25e-4):
        network, x, y = case(problem.replace(output_precision=precision))
        backprop = oracle.backprop_gradients(network, x, y)
        if norm(backprop) == 0:
            return no_decision("backpropagation's gradient is zero")
        claimed = subject.equilibrium(network, x, y)
        if claimed.outcome != "converged":
            return no_decision("the solver did not claim convergence", outcome=claimed.outcome)
        z = claimed.activities
        gradients = subject.weight_gradients(network, x, y, z)
        errors.append(norm([g - b for g, b in zip(gradients, backprop, strict=True)]) / norm(backprop))
        # Whether the precision is small is a matter of the network, not of the gradient that is judged.
        defined = oracle.weight_gradients(network, x, y, z)
        regime = max(regime, norm([g - b for g, b in zip(defined, backprop, strict=True)]) / norm(backprop))
        slack = norm(rounding.weight_gradient_bounds(network, x, y, z)) / norm(backprop)
        residual = norm(theory.error_gradient(network, x, y, z))
        scale = max(norm(np.asarray(a)) for a in (x, *z))
        slack += 4 * residual * scale / problem.batch / norm(backprop)
    if regime > 0.2:
        return no_decision("the precision is not small for this network", error=errors[0])
    return Measurement(error=errors[1], allowance=errors[0] / 4 + slack, details={"at larger precision": errors[0]})
