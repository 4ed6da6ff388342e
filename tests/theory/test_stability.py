"""The conditions on parameterisations, in width and in depth, against literal cases and orders of magnitude."""

import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcbench.errors import TheoryError
from pcbench.problem.parameterisation import Exponents
from pcbench.theory import stability
from pcbench.theory.stability import Growth, Regime

EIGHTHS = st.integers(-24, 24).map(lambda i: i / 8)
PARAMETERISATIONS = st.builds(
    Exponents,
    input=EIGHTHS, input_init=EIGHTHS, hidden=EIGHTHS, hidden_init=EIGHTHS, output=EIGHTHS, output_init=EIGHTHS,
    rate=EIGHTHS,
)  # fmt: skip


def readout(a, b, c):
    return Exponents(output=a, output_init=b, rate=c)


def stable_at_start(a1, a, s, aL, c):
    """Exponents with activities of order 1 at initialisation and a readout that starts at N^-s."""
    return Exponents(
        input=a1, input_init=-a1, hidden=a, hidden_init=0.5 - a, output=aL, output_init=s - aL, rate=c
    )  # fmt: skip


@pytest.mark.parametrize(
    ("exponents", "regime", "hidden", "output"),
    [
        (Exponents(), Regime.FEATURE_LEARNING, 0.0, 0.0),
        (readout(1, 0, -0.5), Regime.TRIVIAL, -0.5, -0.5),
        (readout(1.25, 0, 0), Regime.TRIVIAL, -1.25, -1.5),
        (readout(0.5, 0, 0), Regime.LAZY, -0.5, 0.0),
        (readout(0.75, 0, -0.5), Regime.LAZY, -0.25, 0.0),
        (readout(1, 2, -1), Regime.FEATURE_LEARNING, 0.0, 0.0),
        (readout(1.5, 0, -1.5), Regime.TRIVIAL, 0.0, -0.5),
        # Yang and Hu, table 1: muP, the standard and the neural tangent parameterisation, with a hidden layer
        (Exponents(input=-0.5, input_init=0.5, hidden=0, hidden_init=0.5, output=0.5, output_init=0.5, rate=0),
         Regime.FEATURE_LEARNING, 0.0, 0.0),
        (Exponents(input=0, hidden=0, hidden_init=0.5, output=0, output_init=0.5, rate=1), Regime.LAZY, -0.5, 0.0),
        (Exponents(input=0, hidden=0.5, output=0.5, rate=0), Regime.LAZY, -0.5, 0.0),
    ],
)  # fmt: skip
def test_known_parameterisations(exponents, regime, hidden, output):
    """If this fails, a named parameterisation is put into the wrong regime, or its exponents are not those measured."""
    assert stability.regime(exponents) == stability.regime(exponents, residual=False) == regime
    growth = stability.expected_growth(exponents)
    assert (growth.initial_hidden, growth.hidden, growth.output) == (0.0, hidden, output)


@pytest.mark.parametrize(
    "exponents",
    [
        readout(1, 0, -1.5), readout(0.25, 0, 0), readout(0.5, 0, -0.5), readout(1, -0.5, -0.5), readout(2, 0, -2.25),
        Exponents(input=0.25), Exponents(input_init=-0.25), Exponents(hidden=0.25),
        Exponents(input=0, hidden=0, hidden_init=0.5, output=0, output_init=0.5, rate=0),  # standard, constant rate
    ],
)  # fmt: skip
def test_unstable_parameterisations(exponents):
    """If this fails, one of the six conditions of stability is not checked."""
    assert stability.regime(exponents) == Regime.UNSTABLE
    with pytest.raises(TheoryError, match="needed a stable parameterisation, but it breaks"):
        stability.expected_growth(exponents)


def test_a_vanishing_branch_is_stable_only_beside_a_skip():
    """If this fails, residual networks are judged by the condition of plain ones, or the reverse."""
    vanishing = Exponents(hidden_init=0.25)
    assert stability.regime(vanishing) == Regime.FEATURE_LEARNING
    assert stability.regime(vanishing, residual=False) == Regime.UNSTABLE


@given(PARAMETERISATIONS, EIGHTHS, st.booleans())
def test_shift_of_all_layers_changes_nothing(exponents, theta, residual):
    """If this fails, a condition depends on how a parameterisation is written: a + t, b - t, c - 2t is the same net."""
    shifts = {"input": 1, "hidden": 1, "output": 1, "input_init": -1, "hidden_init": -1, "output_init": -1, "rate": -2}
    shifted = replace(exponents, **{k: getattr(exponents, k) + n * theta for k, n in shifts.items()})
    assert stability.conditions(shifted, residual=residual) == stability.conditions(exponents, residual=residual)


@given(EIGHTHS, EIGHTHS, EIGHTHS.map(abs), EIGHTHS, EIGHTHS)
def test_growth_is_that_of_the_orders_of_magnitude(a1, a, s, aL, c):
    """If this fails, r or a condition is wrong: orders in N carried through two steps of training, term by term."""
    exponents = stable_at_start(a1, a, s, aL, c)
    learnt_readout, features, output = -math.inf, -math.inf, -math.inf
    for _ in range(2):
        signal = max(-s, learnt_readout)  # entries of what comes down to the hidden layers
        features = max(features, -2 * a1 - c + signal, -2 * a - c + signal + 1)
        learnt_readout = max(learnt_readout, -2 * aL - c + max(0.0, features))
        output = max(output, learnt_readout + 1, -s + 1 + features, learnt_readout + 1 + features)
    unstable = s < 0.5 or features > 0 or output > 0
    assert (stability.regime(exponents) == Regime.UNSTABLE) == unstable
    if not unstable:
        growth = stability.expected_growth(exponents)
        assert (growth.hidden, growth.output, growth.initial_output) == (features, output, 0.5 - s)
        assert stability.measured_regime(growth, tolerance=1e-6) == stability.regime(exponents)


@given(EIGHTHS, EIGHTHS, EIGHTHS.map(lambda s: 0.5 + abs(s)), EIGHTHS)
def test_smallest_stable_rate_is_the_boundary(a1, a, s, aL):
    """If this fails, the line in the phase diagram is not where the regime changes."""
    exponents = stable_at_start(a1, a, s, aL, 0.0)
    rate = stability.smallest_stable_rate(exponents)
    assert stability.regime(replace(exponents, rate=rate)) != Regime.UNSTABLE
    assert stability.regime(replace(exponents, rate=rate - 1e-3)) == Regime.UNSTABLE
    assert stability.regime(replace(exponents, rate=rate + 1e-3)) == Regime.TRIVIAL
    assert stability.smallest_stable_rate(replace(exponents, output_init=0.4 - aL)) == math.inf


def test_boundary_of_the_plane_of_output_multiplier_and_rate():
    """If this fails, the boundary is not max(1 - 2p, -p), W6's formula at a = (0, 1/2, p), b = 0."""
    for p in (0.5, 0.75, 1.0, 1.25, 2.0):
        assert stability.smallest_stable_rate(readout(p, 0, 7)) == max(1 - 2 * p, -p)


@pytest.mark.parametrize(
    ("branch", "rate", "regime"),
    [
        (0.5, 0.0, Regime.FEATURE_LEARNING), (0.75, 0.0, Regime.LAZY), (1.0, 0.0, Regime.LAZY),
        (0.375, 0.0, Regime.UNSTABLE), (0.0, 1.0, Regime.UNSTABLE), (0.5, -0.25, Regime.UNSTABLE),
        (1.0, -1.0, Regime.UNSTABLE), (0.5, 0.25, Regime.TRIVIAL), (1.0, 0.5, Regime.TRIVIAL),
    ],
)  # fmt: skip
def test_regimes_in_depth(branch, rate, regime):
    """If this fails, 1/2 is not the depth exponent that is stable and learns features."""
    assert stability.depth_regime(branch, rate) == regime
    if regime != Regime.UNSTABLE:
        growth = Growth(initial_hidden=0.0, initial_output=0.0, hidden=1 - 2 * branch - rate, output=-rate)
        assert stability.measured_regime(growth, tolerance=1e-6) == regime


GROWTH = Growth(initial_hidden=0.0, initial_output=-0.5, hidden=0.0, output=0.0)


@pytest.mark.parametrize(
    ("change", "regime"),
    [
        ({}, Regime.FEATURE_LEARNING),
        ({"hidden": -0.11, "output": 0.1}, Regime.LAZY),
        ({"output": -0.11}, Regime.TRIVIAL),
        ({"initial_output": 0.11, "output": -1.0}, Regime.UNSTABLE),
        ({"initial_hidden": -0.2}, Regime.UNSTABLE),
        ({"hidden": math.inf, "output": -math.inf}, Regime.UNSTABLE),
        ({"output": math.nan}, Regime.UNSTABLE),
        ({"shift": 0.2}, Regime.UNSTABLE),
    ],
)
def test_measured_regimes(change, regime):
    """If this fails, exponents are classified wrongly: what grows anywhere, or is not finite, is unstable."""
    assert stability.measured_regime(replace(GROWTH, **change), tolerance=0.1) == regime


@given(*[st.floats(-2, 2)] * 4)
def test_distance_is_zero_in_the_regime_that_was_measured_and_only_there(initial, output, hidden, change):
    """If this fails, a disagreement is reported with distance 0, or an agreement with a positive one."""
    growth = Growth(initial_hidden=initial, initial_output=output, hidden=hidden, output=change)
    found = stability.measured_regime(growth, tolerance=0.1)
    distances = stability.distances(growth, tolerance=0.1)
    assert distances[found] == 0
    boundary = {abs(abs(v) - 0.1) for v in asdict(growth).values()}
    if min(boundary) > 1e-9:
        assert all(d > 0 for regime, d in distances.items() if regime != found)


def test_agreement_names_both_and_says_how_far():
    """If this fails, a law cannot tell a near miss from a refutation."""
    near = stability.agreement(replace(GROWTH, output=0.15), GROWTH, tolerance=0.1)
    assert (near.first, near.second, near.holds) == (Regime.UNSTABLE, Regime.FEATURE_LEARNING, False)
    assert near.distance == pytest.approx(0.05)
    far = stability.agreement(replace(GROWTH, output=math.inf), Regime.LAZY, tolerance=0.1)
    assert far.distance == math.inf
    same = stability.agreement(GROWTH, GROWTH, tolerance=0.1)
    assert same.holds
    assert same.distance == 0
