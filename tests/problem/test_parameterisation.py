"""Layer scalings, initial variances and learning rates against literal numbers.

They are the one ingredient that reference, oracle and theory share, so nothing else would notice if they were wrong.
"""

import math

import pytest

from pcbench.errors import ProblemError
from pcbench.problem.parameterisation import NAMED, Exponents, initial_std, layer_scalings, learning_rate

# D = 9, N = 16, L = 4, gamma = 2: 1/sqrt(D) = 1/3, 1/sqrt(N L) = 1/8, 1/sqrt(N) = 1/4, 1/N = 1/16.
SCALINGS = [
    ("sp", False, (1.0, 1.0, 1.0, 0.5)),
    ("sp", True, (1.0, 1.0, 1.0, 0.5)),
    ("ntp", False, (1 / 3, 0.25, 0.25, 0.125)),
    ("ntp", True, (1 / 3, 0.125, 0.125, 0.125)),
    ("mupc", False, (1 / 3, 0.25, 0.25, 0.03125)),
    ("mupc", True, (1 / 3, 0.125, 0.125, 0.03125)),
    (Exponents(), False, (1 / 3, 0.25, 0.25, 0.03125)),
    (Exponents(), True, (1 / 3, 0.125, 0.125, 0.03125)),
    (Exponents(output=0.5), True, (1 / 3, 0.125, 0.125, 0.125)),
    (Exponents(depth=1.0), True, (1 / 3, 0.0625, 0.0625, 0.03125)),
    (Exponents(depth=1.0), False, (1 / 3, 0.25, 0.25, 0.03125)),
    (Exponents(input=0.5, hidden=1.0, output=0.25), False, (1 / 12, 0.0625, 0.0625, 0.25)),
]


@pytest.mark.parametrize(("parameterisation", "residual", "expected"), SCALINGS)
def test_scalings(parameterisation, residual, expected):
    """If this fails, every network of this parameterisation is scaled wrongly, on both roads alike."""
    got = layer_scalings(
        parameterisation, input_dim=9, width=16, depth=4, residual=residual, output_multiplier=2.0
    )  # fmt: skip
    assert got == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("parameterisation", NAMED)
def test_two_layers_have_no_hidden_scaling(parameterisation):
    """If this fails, the smallest network gets a scaling too many."""
    got = layer_scalings(parameterisation, input_dim=4, width=25, depth=2, residual=True)
    assert got == pytest.approx({"sp": (1, 1), "ntp": (0.5, 0.2), "mupc": (0.5, 0.04)}[parameterisation], rel=1e-15)


def test_unknown_parameterisation():
    """If this fails, a misspelt name silently gives other scalings."""
    with pytest.raises(ProblemError, match=r"parameterisation='mup': needed one of sp, ntp, mupc or Exponents"):
        layer_scalings("mup", input_dim=1, width=1, depth=2, residual=False)


@pytest.mark.parametrize(
    ("parameterisation", "layer", "expected"),
    [
        ("sp", 1, 1 / 3), ("sp", 2, 0.25), ("sp", 4, 0.25),
        ("ntp", 1, 1.0), ("ntp", 4, 1.0), ("mupc", 1, 1.0), ("mupc", 3, 1.0),
        (Exponents(), 1, 1.0), (Exponents(input_init=0.5), 1, 0.25), (Exponents(input_init=0.5), 2, 1.0),
        (Exponents(hidden_init=1.0), 2, 1 / 16), (Exponents(hidden_init=1.0), 3, 1 / 16),
        (Exponents(hidden_init=1.0), 4, 1.0), (Exponents(output_init=0.25), 4, 0.5),
        (Exponents(output_init=0.25), 3, 1.0),
    ],
)  # fmt: skip
def test_initial_standard_deviation(parameterisation, layer, expected):
    """If this fails, weights start from the wrong variance: sp is 1/fan-in, the others N^-b."""
    fan_in = 9 if layer == 1 else 16
    assert initial_std(parameterisation, layer=layer, depth=4, fan_in=fan_in, width=16) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("parameterisation", "optimiser", "residual", "expected"),
    [
        ("sp", "sgd", True, 0.3), ("ntp", "sgd", True, 0.3), ("mupc", "sgd", True, 0.3 * 4 * 16),
        ("mupc", "sgd", False, 0.3 * 4 * 16), (Exponents(), "sgd", True, 0.3 * 16),
        (Exponents(rate=0.5), "sgd", False, 0.3 / 4), ("sp", "adam", True, 0.3),
        ("ntp", "adam", True, 0.3 / 8), ("mupc", "adam", True, 0.3 / 8), ("mupc", "adam", False, 0.3 / 4),
        (Exponents(), "adam", False, 0.3 / 4),
    ],
)  # fmt: skip
def test_learning_rate(parameterisation, optimiser, residual, expected):
    """If this fails, rates do not transfer across width: SGD under mupc is proportional to gamma^2 N."""
    got = learning_rate(
        parameterisation, 0.3, width=16, depth=4, residual=residual, output_multiplier=2.0, optimiser=optimiser
    )
    assert got == pytest.approx(expected, rel=1e-15)


def test_unknown_optimiser():
    """If this fails, a misspelt optimiser gets the rate of another one."""
    with pytest.raises(ProblemError, match=r"optimiser='adamw': needed 'sgd' or 'adam'"):
        learning_rate("mupc", 0.1, width=2, depth=2, residual=False, optimiser="adamw")


@pytest.mark.parametrize(
    ("exponents", "line"),
    [
        (Exponents(), "general"),
        (Exponents(output=0.5), "general:output=0.5"),
        (Exponents(depth=0), "general:depth=0.0"),
        (Exponents(output=0.1 + 0.2, rate=-0.5), "general:output=0.30000000000000004:rate=-0.5"),
    ],
)
def test_exponents_as_a_line(exponents, line):
    """If this fails, a general parameterisation does not survive being printed."""
    assert exponents.line() == line
    assert Exponents.from_line(line) == exponents


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("general:beta=1", r"exponent 'beta' is not one of input, hidden, output, depth"),
        ("general:output=x", r"output needs a number, got 'x'"),
        ("general:output", r"output needs a number, got ''"),
        ("generous:output=1", r"parameterisation 'generous:output=1'"),
        ("general:output=inf", r"parameterisation exponent output=inf: needed a finite number"),
        ("general:output=1:output=2", r"output is given twice"),
        ("generous", r"generous"),
    ],
)
def test_exponents_refuse(text, message):
    """If this fails, a misspelt exponent is dropped and another parameterisation is tested."""
    with pytest.raises(ProblemError, match=message):
        Exponents.from_line(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1", None])
def test_exponents_are_finite_numbers(value):
    """If this fails, scalings become NaN far from the cause."""
    with pytest.raises(ProblemError, match=r"parameterisation exponent hidden="):
        Exponents(hidden=value)
