"""The calibration that `oracle.numerics` promises: bounds hold with room, and are not too loose to see anything.

An implementation that computes everything in float32 (or float64) is compared with the oracle, which is float64, over
a few hundred problems from the palettes of a few runs.
"""

import math
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from pcbench.properties.mlp import EXPONENTS, move_into, palette

from pcbench.adapters.numpy import NumpyPCN
from pcbench.laws.definition import Domain
from pcbench.laws.measuring.compare import undecided_kink
from pcbench.oracle import mlp as oracle
from pcbench.oracle import rounding
from pcbench.problem.mlp import Problem

QUANTITIES = (
    "prediction",
    "prediction errors",
    "energy",
    "layer energies",
    "loss",
    "activity gradients",
    "weight gradients",
)


def draw_problems(count, dtype, seed):
    """Problems with the settings of a palette and everything else at random."""
    random, capabilities = Random(seed), NumpyPCN.manifest.capabilities
    domain = Domain(dtypes=(dtype,))
    for i in range(count):
        c = move_into(palette(seed + i // 16, capabilities, 16)[i % 16], domain, capabilities, i)
        yield c.problem(
            parameterisation=random.choice(("mupc", "ntp", "sp", *EXPONENTS)),
            weight_law=random.choice(domain.weight_laws), weight_scale=random.choice(domain.weight_scales),
            data_law=random.choice(domain.data_laws), data_scale=random.choice(domain.data_scales),
            output_precision=random.choice(domain.output_precisions),
            output_multiplier=random.choice(domain.output_multipliers), seed=i,
        )  # fmt: skip


def ratios(problem, activities):
    """(quantity, worst error over its bound) of the plain implementation at these activities."""
    n, pcn = problem.network(), NumpyPCN()
    x, y, z = problem.input(), problem.target(), activities
    output_bounds = rounding.prediction_bounds(n, x)
    output = pcn.predict(n, x)
    unit = replace(n, precision=1.0)
    mean_loss = float(np.mean(pcn._loss(n, y, output), dtype=np.float64))
    comparisons = [
        ("prediction", [output], [oracle.predict(n, x)], [output_bounds]),
        ("prediction errors", pcn._errors(unit, [x, *z], y), oracle.prediction_errors(n, x, y, z),
         rounding.error_bounds(n, x, y, z)),
        ("energy", [pcn.energy(n, x, y, z)], [oracle.energy(n, x, y, z)], [rounding.energy_bound(n, x, y, z)]),
        ("layer energies", [pcn.layer_energies(n, x, y, z)], [oracle.layer_energies(n, x, y, z).mean(axis=0)],
         [rounding.layer_energy_bounds(n, x, y, z).mean(axis=0)]),
        ("loss", [mean_loss], [oracle.loss(n, x, y)],
         [rounding.loss_bound(n, y, oracle.predict(n, x), output_bounds)]),
        ("activity gradients", pcn.activity_gradients(n, x, y, z), oracle.activity_gradients(n, x, y, z),
         rounding.activity_gradient_bounds(n, x, y, z)),
        ("weight gradients", pcn.weight_gradients(n, x, y, z), oracle.weight_gradients(n, x, y, z),
         rounding.weight_gradient_bounds(n, x, y, z)),
    ]  # fmt: skip
    for name, got, exact, bounds in comparisons:
        for a, b, bound in zip(got, exact, bounds, strict=True):
            error = np.abs(np.asarray(a, np.float64) - b)
            assert np.all(np.isfinite(bound)), name
            assert np.shape(bound) == np.shape(b), name
            yield name, float(np.max(np.where(error == 0, 0.0, error / bound)))


@pytest.mark.parametrize(("dtype", "count"), [("float32", 160), ("float64", 64)])
def test_bounds_hold_and_are_not_absurdly_loose(dtype, count):
    """If this fails, correct implementations break laws by rounding alone, or laws allow real defects."""
    seen: dict[str, list[float]] = {name: [] for name in QUANTITIES}
    worst: dict[str, tuple[float, str]] = dict.fromkeys(QUANTITIES, (0.0, ""))
    for i, p in enumerate(draw_problems(count, dtype, 0)):
        z = p.activities()
        if i % 2:  # near the feedforward pass, where errors are differences of nearly equal numbers
            z = [a.astype(dtype) for a in oracle.infer(p.network(), p.input(), p.target(), 3, 0.05)]
        for name, ratio in ratios(p, z):
            seen[name].append(ratio)
            worst[name] = max(worst[name], (ratio, p.line()))
    for name, values in seen.items():
        ratio, line = worst[name]
        assert ratio < 0.5, f"{name}: error {ratio:.3g} of its bound on {line}"
        # In float64 the oracle rounds as the implementation does and often to the same bits, which says nothing.
        if dtype == "float32":
            assert np.median(values) > 1e-4, f"{name}: the bound is {1 / np.median(values):.3g} times the error"


def test_wide_layers_stay_inside():
    """If this fails, sums over a few hundred terms leave their bound, and the laws of the limits raise false alarms."""
    p = Problem(input_dim=40, width=384, depth=6, output_dim=4, batch=12, residual=True, dtype="float32")
    assert max(r for _, r in ratios(p, p.activities())) < 0.5


def test_bounds_catch_a_defect_of_one_part_in_ten_thousand():
    """If this fails, float32 laws could not tell a wrong constant from rounding."""
    p = Problem(input_dim=5, width=12, depth=4, output_dim=3, batch=4, activation="tanh", dtype="float32")
    n, x, y, z = p.network(), p.input(), p.target(), p.activities()
    defect = 1 + 1e-4
    assert abs(oracle.energy(n, x, y, z) * (defect - 1)) > rounding.energy_bound(n, x, y, z)
    for exact, bound in (
        *zip(oracle.activity_gradients(n, x, y, z), rounding.activity_gradient_bounds(n, x, y, z), strict=True),
        *zip(oracle.weight_gradients(n, x, y, z), rounding.weight_gradient_bounds(n, x, y, z), strict=True),
    ):
        assert np.any(np.abs(exact * (defect - 1)) > bound)


def test_every_slope_is_below_the_lipschitz_constant():
    """If this fails, bounds on deep networks are too small for the steepest activation."""
    z = np.linspace(-10, 10, 20_001)
    steepest = max(float(np.abs(derivative(z)).max()) for _, derivative in oracle.PHI.values())
    assert 1.1 < steepest <= rounding.LIPSCHITZ  # gelu: 1.129


def test_bounds_shrink_with_the_unit_roundoff():
    """If this fails, float64 is judged with the slack of float32."""
    p = Problem(input_dim=5, width=12, depth=4, output_dim=3, batch=4, activation="gelu")
    q = p.replace(dtype="float32")
    z = [a.astype(np.float32) for a in p.activities()]  # representable in both
    for bound in (rounding.layer_energy_bounds, rounding.activity_gradient_bounds, rounding.weight_gradient_bounds):
        wide = bound(p.network(), p.input(), p.target(), z)
        narrow = bound(q.network(), q.input(), q.target(), z)
        # Bounds are linear in u up to second order, and the two problems are the same up to rounding.
        ratio = np.concatenate([(b / a).ravel() for a, b in zip(wide, narrow, strict=True)])
        assert math.isclose(float(np.median(ratio)), 2.0**29, rel_tol=1e-2)


@pytest.mark.parametrize(
    ("placement", "activity", "reach", "undecided"),
    [
        ("before-weight", 1e-33, 0.0, True),  # below what float32 tells from 0
        ("before-weight", 1e-3, 0.0, False),
        ("before-weight", 1e-3, 1e-2, True),
        ("before-weight", 0.0, 0.0, False),  # an exact zero has a side by definition
        ("after-weight", 1e-33, 0.0, True),
        ("after-weight", 1.0, 0.0, False),
    ],
)
def test_kinks_that_rounding_decides(placement, activity, reach, undecided):
    """If this fails, an implementation is blamed for the side of a kink that its arithmetic cannot see."""
    problem = Problem(
        input_dim=1, width=1, depth=3, output_dim=1, batch=1, activation="relu", placement=placement, dtype="float32"
    )
    ones = [np.ones((1, 1), np.float32)] * 3
    network = replace(problem.network().with_weights(ones), scalings=(1.0, 1.0, 1.0))
    z = [np.full((1, 1), activity)] * 2
    assert undecided_kink(network, np.full((1, 1), 2.0), z, reach) is undecided
