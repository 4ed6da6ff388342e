r"""Problems of the leaderboard, and the step size that all implementations take.

Gradient descent on the activities is stable below \(2/\lambda_{\max}\) of the activity Hessian (E5).  Every
implementation takes the same fraction of that threshold, which the theory computes from the weights, so that equal
steps are equal work and differ in nothing but speed.  For a nonlinear network it is the threshold of the linear one
with the same weights, times a bound on the slope of the activation: that is the Hessian's positive part at its largest,
and leaves out terms that are proportional to the prediction errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pcbench import theory
from pcbench.errors import UsageError
from pcbench.oracle import mlp as oracle
from pcbench.oracle.rounding import LIPSCHITZ
from pcbench.problem.mlp import Problem
from pcbench.problem.network import DTYPES, Activities, Network

PROBLEMS: dict[str, Problem] = {
    "linear-medium": Problem(input_dim=32, width=64, depth=8, output_dim=10, batch=32, residual=True, seed=1),
    "tanh-medium": Problem(
        input_dim=32, width=64, depth=8, output_dim=10, batch=32, activation="tanh", residual=True, seed=1
    ),
    "deep-narrow": Problem(
        input_dim=32, width=16, depth=16, output_dim=4, batch=16, activation="tanh", residual=True, seed=3
    ),
    "wide": Problem(
        input_dim=32, width=512, depth=4, output_dim=10, batch=32, activation="tanh", residual=True, seed=1
    ),
}
"""What is measured by default, by name; all under mupc, and of seeds whose equilibrium can be certified."""

QUICK: dict[str, Problem] = {
    "linear-small": Problem(input_dim=16, width=32, depth=4, output_dim=4, batch=16, residual=True, seed=1),
    "tanh-small": Problem(
        input_dim=16, width=32, depth=4, output_dim=4, batch=16, activation="tanh", residual=True, seed=1
    ),
}
"""What `--quick` measures."""

_UNIT_SLOPE = ("linear", "tanh", "relu", "softplus")  # the others exceed 1 by less than `LIPSCHITZ`


@dataclass(frozen=True, kw_only=True)
class Case:
    r"""One problem in one dtype, with what the theory says of it.

    **Arguments:** `name` of the problem; `problem`, whose `step_size` is what implementations are given; `threshold`,
    of which that is a fraction.
    """

    name: str
    problem: Problem
    threshold: float

    @cached_property
    def arrays(self) -> tuple[Network, np.ndarray, np.ndarray]:
        """Network, input and target in the problem's dtype: the same objects for every implementation."""
        return self.problem.network(), self.problem.input(), self.problem.target()

    @cached_property
    def float64(self) -> tuple[Network, np.ndarray, np.ndarray]:
        """Network, input and target in float64, for certificates."""
        network, x, y = self.arrays
        return network.astype("float64"), x.astype(np.float64), y.astype(np.float64)

    @cached_property
    def loss(self) -> float:
        r"""\(\lambda\) times the loss of the feedforward pass, which is the energy that inference begins at."""
        network, x, y = self.float64
        return network.precision * oracle.loss(network, x, y)

    def start(self) -> Activities:
        """The feedforward pass in float64."""
        network, x, _ = self.float64
        return oracle.feedforward(network, x)


def make_cases(problems: Mapping[str, Problem], dtypes: Sequence[str], fraction: float) -> list[Case]:
    """Every problem in every dtype, with `fraction` of its threshold as the step size.

    **Raises:** `UsageError` for a fraction that is not between 0 and 1, or a dtype that does not exist.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"fraction {fraction!r} of the stable step size: needed more than 0 and less than 1")
    unknown = [dtype for dtype in dtypes if dtype not in DTYPES]
    if unknown or not dtypes:
        raise UsageError(f"dtypes {', '.join(dtypes) or 'none'}: needed some of {', '.join(DTYPES)}")
    made = []
    for name, problem in problems.items():
        threshold = step_size_threshold(problem.replace(dtype="float64").network())
        for dtype in dtypes:
            step = float(np.dtype(dtype).type(fraction * threshold))
            made.append(Case(name=name, problem=problem.replace(dtype=dtype, step_size=step), threshold=threshold))
    return made


def step_size_threshold(network: Network) -> float:
    r"""\(2/\lambda_{\max}\) of a linear network with squared error, its bound as in the module's text for others."""
    slope = 1.0 if network.activation in _UNIT_SLOPE else LIPSCHITZ
    scalings = (network.scalings[0], *(slope * a for a in network.scalings[1:]))
    # The Hessian of cross-entropy is at most 1/2, that of squared error is 1.
    linear = replace(network, activation="linear", placement="before-weight", loss="mse", scalings=scalings)
    return theory.step_size_threshold(linear)


def name_problems(lines: Sequence[str]) -> dict[str, Problem]:
    """Problems given as lines (see `Problem.from_line`), under short names that tell them apart.

    **Raises:** `ProblemError` for a line that is none.
    """
    made: dict[str, Problem] = {}
    for line in lines:
        problem = Problem.from_line(line)
        name = f"{problem.activation}-N{problem.width}-L{problem.depth}"
        while name in made:
            name += "'"
        made[name] = problem
    return made
