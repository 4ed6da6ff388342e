r"""Law of the origin of weight space, where the equilibrated energy has a strict saddle."""

from __future__ import annotations

import numpy as np

from pcbench import theory
from pcbench.laws.definition import Domain, Measurement, law
from pcbench.laws.measuring.compare import case, direction, no_decision
from pcbench.oracle.numerics import norm
from pcbench.problem.mlp import Problem
from pcbench.worker.subject import Subject


@law(
    "saddle.origin-is-strict",
    statement=(
        r"Near zero weights dF*/dW_L = -lambda^2 a_L^2 (1/B) Y^T Y W_L and other layers' gradients are of "
        r"higher order."
    ),
    citation="arXiv 2408.11979; theory L10; paper facts P33",
    failing_means="an inference that does nothing where activities are small, or BP gradients in place of PC's",
    needs=("weight-gradients",),
    domain=Domain(activations=("linear",), losses=("mse",), dtypes=("float64",), residual=(False,), depth=(3, 64),
                  data_laws=("gaussian",), data_scales=(1.0,), weight_laws=("gaussian",), weight_scales=(1.0,)),
    depends_on=("gradient.weights-match-definition",),
)  # fmt: skip
def origin_is_strict(subject: Subject, problem: Problem) -> Measurement:
    """Weights h V: what is left beside the linear term must shrink with h, about sixteenfold for a sixteenth of h.

    The loss has no such term: its Hessian at the origin is zero for two hidden layers or more.
    """
    network, x, y = case(problem)
    along = direction(problem, "origin", network.weights)
    Y = np.asarray(y, np.float64)
    scale = max(a * np.sqrt(w.shape[1]) for a, w in zip(network.scalings, network.weights, strict=True))
    slope = -((network.precision * network.scalings[-1]) ** 2) * (Y.T @ Y / len(Y)) @ along[-1]
    if norm(slope) == 0:
        return no_decision("the linear term is zero")
    rests = []
    for h in (0.04 / scale, 0.0025 / scale):
        small = network.with_weights([h * v for v in along])
        z = theory.equilibrium_activities(small, x, y)
        gradients = [g / h for g in subject.weight_gradients(small, x, y, z)]
        expected = [*(np.zeros_like(g) for g in gradients[:-1]), slope]
        rests.append(norm([g - e for g, e in zip(gradients, expected, strict=True)]) / norm(slope))
    if rests[0] > 0.5:
        return no_decision("higher orders are not small for this network", rest=rests[0])
    return Measurement(error=rests[1], allowance=rests[0] / 4 + 1e-9, details={"at larger weights": rests[0]})
