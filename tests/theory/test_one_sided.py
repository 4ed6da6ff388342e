"""ReLU at its kinks: minima known by hand, by exact coordinate minimisation, and by difference quotients."""

import functools
import itertools
import math

import numpy as np
import pytest

from pcbench import theory
from pcbench.errors import TheoryError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.theory.one_sided import gradient_of_piece, one_sided_residual

ALL = [
    Problem(
        input_dim=3, width=4, depth=4, output_dim=2, batch=3, activation="relu", placement=placement,
        residual=residual, loss=loss, parameterisation="ntp", output_precision=2.0, seed=seed,
    )
    for seed, (placement, residual, loss) in enumerate(
        itertools.product(("before-weight", "after-weight"), (False, True), ("mse", "ce"))
    )
]  # fmt: skip
# minimised coordinate by coordinate, so before the weight, where that cannot stop short of a local minimum
SOLVED = [
    Problem(
        input_dim=3, width=4, depth=3, output_dim=2, batch=1, activation="relu", residual=residual, loss=loss,
        parameterisation="ntp", seed=seed,
    )
    for seed, residual, loss in itertools.product((0, 1, 3), (False, True), ("mse", "ce"))
]  # fmt: skip


def single_unit_chain(*weights: float, placement: str = "before-weight") -> Network:
    """A chain of single units."""
    matrices = tuple(np.array([[w]]) for w in weights)
    ones, zeros = (1.0,) * len(weights), (0.0,) * len(weights)
    return Network(weights=matrices, scalings=ones, skips=zeros, activation="relu", placement=placement)


def scalar(value: float) -> np.ndarray:
    return np.array([[value]])


def arguments(network: Network, z: list[np.ndarray]) -> list[np.ndarray]:
    """What relu acts on and inference can move."""
    if network.placement == "before-weight":
        return z
    return [a @ W.T for a, W in zip(z[:-1], network.effective_weights()[1:-1], strict=True)]


def gradient_norm(network: Network, x: np.ndarray, y: np.ndarray, z: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(np.sum([np.sum(g * g, axis=1) for g in oracle.activity_gradients(network, x, y, z)], axis=0))


def width_of_chatter(
    network: Network, x: np.ndarray, y: np.ndarray, z: list[np.ndarray], step: float
) -> list[np.ndarray]:
    """Twice as far as a step of gradient descent may take what relu acts on, with the slope of either side."""
    slopes, errors = oracle.activity_gradients(network, x, y, z), oracle.weighted_errors(network, x, y, z)
    weights = network.effective_weights()[1:]
    if network.placement == "before-weight":
        rates = [np.abs(g) + np.abs(e @ W) for g, e, W in zip(slopes, errors[1:], weights, strict=True)]
    else:
        rates = [
            np.abs(g @ W.T) + np.abs(e) * np.sum(W * W, axis=1)
            for g, e, W in zip(slopes[:-1], errors[1:-1], weights[:-1], strict=True)
        ]
    return [2 * step * r for r in rates]


@functools.cache
def coordinate_minimum(problem: Problem, sweeps: int = 300) -> list[np.ndarray]:
    """A minimum along every coordinate, found exactly, of a batch of one.

    On either side of a coordinate's kink the energy is convex: its minimum there is a root of the oracle's derivative
    or the kink, and the lower side wins.  Derivatives are separable before the weight, so this is a local minimum.
    """
    network, x, y = problem.network(), problem.input(), problem.target()
    z = oracle.feedforward(network, x)

    def derivative(l: int, i: int, value: float) -> float:
        z[l][0, i] = value
        return float(oracle.activity_gradients(network, x, y, z)[l][0, i])

    def energy(l: int, i: int, value: float) -> float:
        z[l][0, i] = value
        return oracle.energy(network, x, y, z)

    for _ in range(sweeps):
        moved = 0.0
        for l, i in itertools.product(range(len(z)), range(problem.width)):
            old = z[l][0, i]
            candidates = [0.0]
            for sign in (-1.0, 1.0):
                root = one_sided_root(lambda v, l=l, i=i: derivative(l, i, v), sign)
                candidates += [] if root is None else [root]
            best = min(candidates, key=lambda v, l=l, i=i: energy(l, i, v))
            z[l][0, i] = best
            moved = max(moved, abs(best - old))
        if moved < 1e-13:
            break
    return z


def one_sided_root(slope, sign: float) -> float | None:
    """The root of an increasing function on the positive or the negative half-line, if there is one: secants."""
    near, far, middle = sign * 1e-300, sign, sign
    at_near, at_far = slope(near), slope(far)
    if at_near * sign >= 0:
        return None  # the slope leads back to the kink
    while at_far * sign < 0:
        far *= 2
        at_far = slope(far)
    for _ in range(60):
        middle = far - at_far * (far - near) / (at_far - at_near)
        value = slope(middle)
        if abs(value) < 1e-15:
            break
        if value * at_far < 0:
            near, at_near = far, at_far
        else:
            at_near /= 2  # Illinois: keeps both ends moving
        far, at_far = middle, value
    return middle


# ---- minima known by hand ---------------------------------------------------------------------------------------


def test_one_unit_rests_at_its_kink():
    """If this fails, the plainest minimum on a kink is not seen: F = (z - 1)^2/2 + (3 + max(z, 0))^2/2, least at 0.

    The derivative is 2 on the right of 0 and -1 on the left, so the gradient is never small.
    """
    network, x, y = single_unit_chain(1.0, 1.0), scalar(1.0), scalar(-3.0)
    result = one_sided_residual(network, x, y, [scalar(0.0)], width_of_kink=0.0)
    assert result.holds
    assert (result.residual[0], result.energy_change[0]) == (0.0, 0.0)
    assert result.gap_bound is not None
    assert result.gap_bound[0] == 0.0
    assert result.at_kink[0].all()
    assert gradient_norm(network, x, y, [scalar(0.0)])[0] == 1.0
    assert not theory.certify(network, x, y, [scalar(0.0)]).holds


@pytest.mark.parametrize(
    ("z", "slope", "gap"),
    [
        (0.1, 2.2, 0.5 * 0.9**2 + 0.5 * 3.1**2 - 5),
        (-0.1, 1.1, 0.5 * 1.1**2 + 4.5 - 5),
    ],
)
def test_beside_the_kink(z: float, slope: float, gap: float):
    """If this fails, a point off its kink passes for a minimum, or the gap of a chattering one is wrong (F* = 5)."""
    network, x, y = single_unit_chain(1.0, 1.0), scalar(1.0), scalar(-3.0)
    off = one_sided_residual(network, x, y, [scalar(z)], width_of_kink=0.0)
    assert off.residual[0] == pytest.approx(slope, rel=1e-12)
    assert not off.holds
    assert math.isinf(off.mean_gap_bound)
    assert "may reach theirs" in off.reason
    near = one_sided_residual(network, x, y, [scalar(z)], width_of_kink=0.2)
    assert near.residual[0] == 0.0
    assert near.activities[0].item() == 0.0
    assert near.mean_gap_bound == pytest.approx(gap, rel=1e-12)
    assert near.distance_bound is not None
    assert near.distance_bound[0] == pytest.approx(0.1)


def test_a_concave_kink_is_no_equilibrium():
    """If this fails, 0 in Clarke's subdifferential passes for a minimum.

    F = (z + 1)^2/2 + (3 - max(z, 0))^2/2 has slope 1 on the left of 0 and -2 on its right: downhill both ways.
    """
    network, x, y = single_unit_chain(-1.0, 1.0), scalar(1.0), scalar(3.0)
    result = one_sided_residual(network, x, y, [scalar(0.0)], width_of_kink=0.1)
    assert result.residual[0] == 2.0
    # the minima are z = -1 with F = 4.5 and z = 1 with F = 4, and F(0) = 5
    assert result.mean_gap_bound >= 1.0
    beside = one_sided_residual(network, x, y, [scalar(1e-3)], width_of_kink=0.1)
    assert not beside.at_kink[0].any()
    assert beside.activities[0].item() == 1e-3


def test_kinks_of_both_kinds_in_one_sample():
    """If this fails, a concave kink nearby keeps a chattering unit off its own: the two chains above side by side."""
    network = Network(
        weights=(np.diag([1.0, -1.0]), np.eye(2)), scalings=(1.0, 1.0), skips=(0.0, 0.0), activation="relu"
    )
    x, y, z = np.ones((1, 2)), np.array([[-3.0, 3.0]]), [np.array([[0.05, 0.001]])]
    result = one_sided_residual(network, x, y, z, width_of_kink=0.1)
    np.testing.assert_array_equal(result.at_kink[0], [[True, False]])
    np.testing.assert_array_equal(result.activities[0], [[0.0, 0.001]])
    assert result.residual[0] == pytest.approx(2 - 0.002, rel=1e-12)


def test_one_unit_after_the_weight():
    """If this fails, the kink of a drive is not seen.

    With the second layer at its best, F = (z - 1)^2/2 + (5 + max(z, 0))^2/4, least at z = 0 where z_2 = -5/2.
    """
    network, x, y = single_unit_chain(1.0, 1.0, 1.0, placement="after-weight"), scalar(1.0), scalar(-5.0)
    result = one_sided_residual(network, x, y, [scalar(0.0), scalar(-2.5)], width_of_kink=0.0)
    assert result.holds
    assert result.residual[0] == pytest.approx(0.0, abs=1e-15)
    assert one_sided_residual(network, x, y, [scalar(0.0), scalar(-2.0)], width_of_kink=0.0).residual[0] >= 1.0


def test_a_kink_within_reach_through_a_steep_layer():
    """If this fails, a unit counts as out of reach although errors of the layer below carry it across.

    z_2 = 10 (1.05 - 1) = 0.5 turns negative when errors of 0.03 lower one unit of layer 1 and raise the other; the
    gradient in errors is |y - 1/2| times (10, -10, 1), and their minimum is sought within twice that.
    """
    network = Network(
        weights=(np.array([[1.05], [1.0]]), np.array([[10.0, -10.0]]), np.eye(1)), scalings=(1.0,) * 3,
        skips=(0.0,) * 3, activation="relu",
    )  # fmt: skip
    x, z = scalar(1.0), [np.array([[1.05, 1.0]]), scalar(0.5)]
    assert not one_sided_residual(network, x, scalar(0.495), z, width_of_kink=0.0).holds
    near = one_sided_residual(network, x, scalar(0.4999), z, width_of_kink=0.0)
    assert near.holds
    assert near.mean_gap_bound == pytest.approx(201 * 1e-8 / 2)


# ---- difference quotients -----------------------------------------------------------------------------------------


def on_kinks(problem: Problem) -> list[np.ndarray]:
    """Random activities with one unit of every layer of arguments exactly on its kink."""
    network, z = problem.network(), problem.activities()
    if problem.placement == "before-weight":
        for l, a in enumerate(z):
            a[:, l % problem.width] = 0.0
        return z
    for a, W in zip(z[:-1], network.effective_weights()[1:-1], strict=True):
        a -= np.outer(a @ W[1], W[1]) / (W[1] @ W[1])
    return z


@pytest.mark.parametrize("problem", ALL, ids=Problem.line)
def test_residual_is_the_descent_of_one_sided_difference_quotients(problem: Problem):
    """If this fails, the slope on one side of a kink is wrong: forward differences of the oracle's energy, both ways.

    Before the weight a coordinate's slopes are its own, and the steepest descent is the norm of those that fall;
    where a kink is concave, and after the weight, no coordinate falls faster than the residual says.
    """
    network, x, y, z = problem.network(), problem.input(), problem.target(), on_kinks(problem)
    result = one_sided_residual(network, x, y, z, width_of_kink=1e-12)
    base = oracle.sample_energies(network, x, y, z)
    squares, worst, convex, bent = np.zeros(len(x)), np.zeros(len(x)), np.ones(len(x), bool), 0
    for l, i in itertools.product(range(len(z)), range(problem.width)):
        up, down = (np.zeros(len(x)) for _ in range(2))
        for slope, h in ((up, 1e-6), (down, -1e-6)):
            moved = [a.copy() for a in z]
            moved[l][:, i] += h
            slope[:] = (oracle.sample_energies(network, x, y, moved) - base) / 1e-6
        descent = np.maximum(0.0, -np.minimum(up, down))
        squares, worst = squares + descent**2, np.maximum(worst, descent)
        convex &= up + down >= -1e-4
        bent += int(np.any(np.abs(up + down) > 1e-3))
    assert bent >= len(arguments(network, z))
    assert np.all(result.residual >= worst - 1e-4)
    if problem.placement == "before-weight":
        assert np.all(result.residual >= np.sqrt(squares) - 1e-4)
        np.testing.assert_allclose(result.residual[convex], np.sqrt(squares)[convex], atol=1e-4)


def test_steepest_descent_after_the_weight_is_that_over_all_directions():
    """If this fails, descent along several units at once is missed: a scan of the circle of directions."""
    problem = Problem(input_dim=1, width=2, depth=3, output_dim=1, batch=6, activation="relu",
                      placement="after-weight", parameterisation="ntp", seed=4)  # fmt: skip
    network, x, y = problem.network(), problem.input(), problem.target()
    # both drives are at their kink where z_1 = 0; z_2 < 0 makes both kinks convex
    z = [np.zeros((6, 2)), -np.abs(problem.activities()[1])]
    result = one_sided_residual(network, x, y, z, width_of_kink=0.0)
    assert all(k.all() for k in result.at_kink)
    base, h, steepest = oracle.sample_energies(network, x, y, z), 1e-6, np.full(6, -np.inf)
    for angle in np.linspace(0, 2 * np.pi, 4001):
        moved = [z[0] + h * np.array([np.cos(angle), np.sin(angle)]), z[1]]
        steepest = np.maximum(steepest, (base - oracle.sample_energies(network, x, y, moved)) / h)
    above = np.sqrt(np.sum(oracle.activity_gradients(network, x, y, z)[1] ** 2, axis=1))
    np.testing.assert_allclose(result.residual, np.hypot(np.maximum(steepest, 0), above), rtol=1e-4, atol=1e-5)
    assert np.any(steepest > 0.05)


@pytest.mark.parametrize("problem", ALL, ids=Problem.line)
def test_gradient_of_a_piece(problem: Problem):
    """If this fails, the gradient at a kink is not the limit of the oracle's gradients from inside the piece."""
    network, x, y, z = problem.network(), problem.input(), problem.target(), on_kinks(problem)
    inside = [a + 1e-9 * d for a, d in zip(z, problem.activities("inside"), strict=True)]
    limit = oracle.activity_gradients(network, x, y, inside)
    for a, b in zip(gradient_of_piece(network, x, y, z, piece=inside), limit, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


# ---- minima found independently -----------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", SOLVED, ids=Problem.line)
def test_exact_coordinate_minima_are_certified(problem: Problem):
    """If this fails, a minimum found by coordinate descent is refused, or a bound is not above the truth near it."""
    network, x, y = problem.network(), problem.input(), problem.target()
    z = coordinate_minimum(problem)
    lowest = oracle.sample_energies(network, x, y, z)[0]
    result = one_sided_residual(network, x, y, z, width_of_kink=0.0)
    assert result.residual[0] < 1e-8
    assert result.holds, result.reason
    assert result.mean_gap_bound < 1e-14
    draw = np.random.default_rng(problem.seed)
    for size in (1e-6, 1e-3, 1e-2):
        for _ in range(20):
            near = [a + size * draw.standard_normal(a.shape) for a in z]
            energy = oracle.sample_energies(network, x, y, near)[0]
            assert energy > lowest
            bounded = one_sided_residual(network, x, y, near, width_of_kink=5 * size)
            assert bounded.residual[0] > 1e-12
            if bounded.holds:
                assert bounded.mean_gap_bound >= energy - lowest - 1e-13
            off = one_sided_residual(network, x, y, near, width_of_kink=0.0)
            assert off.residual[0] > 0.1 * size
            np.testing.assert_allclose(off.residual, gradient_norm(network, x, y, near), rtol=1e-9)


def test_coordinate_minima_lie_on_kinks():
    """If this fails, the problems above test no kink: the gradient must raise its false alarm on most of them."""
    alarms = 0
    for problem in SOLVED:
        network, x, y, z = problem.network(), problem.input(), problem.target(), coordinate_minimum(problem)
        at_kink = any(np.any(a == 0) for a in z)
        alarms += int(at_kink and gradient_norm(network, x, y, z)[0] > 0.01)
    assert alarms >= len(SOLVED) // 2


@pytest.mark.parametrize("problem", [p.replace(batch=8, depth=3) for p in ALL], ids=Problem.line)
def test_inference_chatters_around_certified_minima(problem: Problem):
    """If this fails, the kinks that inference chatters at are not found within the length of its steps.

    The residual falls with the step size, the gradient does not, and every bound of the gap is above the distance to
    the lowest energy that smaller steps reach from there.
    """
    network, x, y = problem.network(), problem.input(), problem.target()
    z, step, results, states = oracle.feedforward(network, x), 0.05, [], []
    for steps in (2000, 400, 400):
        z = oracle.infer(network, x, y, steps, step, z)
        widths = width_of_chatter(network, x, y, z, step)
        results.append(one_sided_residual(network, x, y, z, width_of_kink=widths))
        states.append(z)
        step /= 8
    first, last = (float(np.linalg.norm(r.residual)) for r in (results[0], results[-1]))
    assert last < 0.5 * first
    assert any(k.any() for k in results[-1].at_kink)
    assert last < 0.05 * np.linalg.norm(gradient_norm(network, x, y, z))
    lowest, bounds = oracle.sample_energies(network, x, y, z), 0
    for result, state in zip(results, states, strict=True):
        if result.gap_bound is not None:
            bounds += 1
            assert np.all(result.gap_bound >= oracle.sample_energies(network, x, y, state) - lowest - 1e-12)
    assert bounds


def test_a_wide_width_moves_no_sample_at_rest():
    """If this fails, a unit that rests beside its kink is moved onto it: F = (z - 0.1)^2/2 + (y - max(z, 0))^2/2.

    With y = -0.05 the minimum is the smooth one at z = 0.025, and the kink has slopes -0.1 and -0.05.
    """
    network, x, y = single_unit_chain(1.0, 1.0), scalar(0.1), scalar(-0.05)
    for width in (0.0, 0.1):
        result = one_sided_residual(network, x, y, [scalar(0.025)], width_of_kink=width)
        assert result.residual[0] < 1e-16
        assert result.holds
        assert result.activities[0].item() == 0.025


# ---- away from kinks, and what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("placement", ["before-weight", "after-weight"])
def test_away_from_kinks_it_is_the_certificate(placement: str):
    """If this fails, the one-sided and the smooth certificate disagree where both speak: no unit near its kink."""
    draw = np.random.default_rng(3)
    weights = tuple(0.5 + 0.1 * draw.standard_normal(shape) for shape in ((4, 3), (4, 4), (2, 4)))
    network = Network(weights=weights, scalings=(1.0,) * 3, skips=(0.0,) * 3, activation="relu", placement=placement)
    x = np.ones((5, 3))
    y = oracle.predict(network, x) + 1e-3 * draw.standard_normal((5, 2))
    z = [a + 1e-3 * draw.standard_normal(a.shape) for a in oracle.feedforward(network, x)]
    smooth = theory.certify(network, x, y, z)
    result = one_sided_residual(network, x, y, z, width_of_kink=1e-3)
    assert smooth.holds
    assert result.holds
    assert result.gap_bound is not None
    np.testing.assert_allclose(result.gap_bound, smooth.residual_norm**2 / 2, rtol=1e-12)
    np.testing.assert_allclose(result.residual, gradient_norm(network, x, y, z), rtol=1e-12)
    assert not any(k.any() for k in result.at_kink)


def test_one_hidden_layer_after_the_weight_has_no_kink():
    """If this fails, the depth at which inference can move no drive is not handled: F is quadratic there."""
    problem = ALL[4].replace(depth=2)
    network, x, y, z = problem.network(), problem.input(), problem.target(), problem.activities()
    result = one_sided_residual(network, x, y, z, width_of_kink=1.0)
    assert result.holds
    assert result.at_kink == []
    assert result.gap_bound is not None
    np.testing.assert_allclose(result.gap_bound, gradient_norm(network, x, y, z) ** 2 / 2, rtol=1e-12)


def test_silent_networks():
    """If this fails, a network of zeros at rest is refused, or activities that are not finite pass."""
    problem = Problem(input_dim=2, width=3, depth=3, output_dim=1, batch=2, activation="relu", weight_law="zero")
    network, x = problem.network(), problem.input()
    rest = [np.zeros((2, 3)), np.zeros((2, 3))]
    result = one_sided_residual(network, x, np.zeros((2, 1)), rest, width_of_kink=0.0)
    assert result.holds
    assert result.mean_gap_bound == 0.0
    rest[0][0, 0] = np.nan
    bad = one_sided_residual(network, x, np.zeros((2, 1)), rest, width_of_kink=0.0)
    assert not bad.holds
    assert "not finite" in bad.reason


@pytest.mark.parametrize("width", [-1.0, [np.zeros((3, 4))], [np.full((3, 4), -1.0)] * 3])
def test_widths_that_are_none(width):
    """If this fails, a width of the wrong sign or shape is taken for something."""
    problem = ALL[0]
    network, x, y, z = problem.network(), problem.input(), problem.target(), problem.activities()
    with pytest.raises(TheoryError, match="width_of_kink"):
        one_sided_residual(network, x, y, z, width_of_kink=width)


def test_only_relu_has_kinks():
    """If this fails, another activation is answered for."""
    problem = ALL[0].replace(activation="gelu")
    network, x, y, z = problem.network(), problem.input(), problem.target(), problem.activities()
    with pytest.raises(TheoryError, match="activation='gelu'"):
        one_sided_residual(network, x, y, z, width_of_kink=0.0)
