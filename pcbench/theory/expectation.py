r"""Expectation of S at initialisation, exact at every width and depth: \(E[S] = I/\lambda + s I\) (W1).

For independent layers with zero-mean entries of variance \(v_l\), \(E[A_L \cdots A_{l+1} (A_L \cdots A_{l+1})^T]\) is a
multiple of the identity, one factor per layer, hence

\[s = a_L^2 N v_L \sum_{j=0}^{L-2} (\tau^2 + a^2 N v)^j .\]

With the named parameterisations: `mupc` \(\frac{L}{\gamma^2 N}((1+\frac1L)^{L-1}-1)\) residual and
\(\frac{L-1}{\gamma^2 N}\) plain, `ntp` the same without the N, `sp` with entries of variance q/fan-in
\(((1+q)^{L-1}-1)/\gamma^2\) and \(\sum_{j=1}^{L-1} q^j/\gamma^2\).

Compare it with tr(S - I/λ)/K: the spectral norm of S carries a Wishart edge, 1.2 to 12 times as large.
"""

from __future__ import annotations

import math

import numpy as np

from pcbench.errors import TheoryError
from pcbench.problem.mlp import Problem
from pcbench.problem.parameterisation import Exponents, initial_std, layer_scalings


def expected_trace_excess(
    parameterisation: str | Exponents,
    *,
    width: int,
    depth: int,
    residual: bool,
    output_multiplier: float = 1.0,
    variance: float = 1.0,
) -> float:
    r"""\(s\) in \(E[S] = I/\lambda + s I\) at initialisation of a linear network.

    `variance` multiplies the variance of every entry: with `sp` it is q, for entries of variance q/fan-in (q = 1/3 is
    the default of Equinox and PyTorch); elsewhere it is 1 unless weights are rescaled.  Infinite if s overflows.

    **Raises:** `TheoryError` for sizes or a variance that no network has.
    """
    if depth < 2 or width < 1 or not (math.isfinite(variance) and variance >= 0) or not output_multiplier > 0:
        raise TheoryError(
            f"expected excess at width={width}, depth={depth}, variance={variance}, "
            f"output_multiplier={output_multiplier}: needed width >= 1, depth >= 2, a variance that is not negative "
            "and a positive output multiplier"
        )
    scalings = layer_scalings(
        parameterisation,
        input_dim=1,
        width=width,
        depth=depth,
        residual=residual,
        output_multiplier=output_multiplier,
    )

    def gain(layer: int) -> float:
        std = initial_std(parameterisation, layer=layer, depth=depth, fan_in=width, width=width)
        return scalings[layer - 1] ** 2 * width * std**2 * variance

    branch = gain(2) if depth > 2 else 0.0
    ratio = branch + (1.0 if residual and depth > 2 else 0.0)
    with np.errstate(over="ignore"):
        return float(gain(depth) * np.sum(np.power(ratio, np.arange(depth - 1, dtype=np.float64))))


def expected_trace_excess_of(problem: Problem) -> float:
    r"""`expected_trace_excess` at the sizes of a problem with Gaussian weights, its `weight_scale` included.

    **Raises:** `TheoryError` if the problem is not linear or its weights are not Gaussian.
    """
    if not problem.linear or problem.weight_law != "gaussian":
        raise TheoryError(
            f"expected excess of a problem with activation={problem.activation!r}, weight_law={problem.weight_law!r}: "
            "needed 'linear' and 'gaussian'"
        )
    return expected_trace_excess(
        problem.parameterisation,
        width=problem.width,
        depth=problem.depth,
        residual=problem.residual,
        output_multiplier=problem.output_multiplier,
        variance=problem.weight_scale**2,
    )
