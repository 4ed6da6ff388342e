"""Figures: the interval against a worked example, the palette by contrast, equal files for equal figures."""

import itertools
import math

import matplotlib
import numpy as np
import pytest

from pcbench.errors import UsageError
from pcbench.output import drawing


def picture():
    figure, axes = drawing.panels(1, 2, width=5, height=2.5)
    drawing.log_axes(axes[0, 0])
    drawing.size_ticks(axes[0, 0], [8, 32, 128])
    drawing.points(axes[0, 0], [8, 32, 128], [[1.0, 1.1], [0.5, 0.6], [0.2]], color=drawing.PALETTE[0], label="one")
    drawing.band(axes[0, 1], [1, 2], [[1.0, 2.0], [2.0, 3.0]], color=drawing.PALETTE[1], label="two")
    drawing.describe(axes[0, 0], title="Energy", x="width $N$", y="excess")
    drawing.text_box(axes[0, 0], "slope")
    drawing.legend(axes[0, 1])
    return figure


def test_interval_of_a_worked_example():
    """If this fails, the intervals in every figure are wrong; with 2 degrees of freedom t has a closed form."""
    centre, low, high = drawing.interval([1.0, math.e, math.e**2])
    half = (
        0.95 / math.sqrt(2 * 0.975 * 0.025) / math.sqrt(3)
    )  # the logarithms 0, 1, 2 have mean 1 and standard deviation 1
    np.testing.assert_allclose([centre, low, high], np.exp([1.0, 1 - half, 1 + half]), rtol=1e-8)


def test_interval_covers_at_its_level():
    """If this fails, "95 %" is not what the intervals are."""
    draws = np.exp(np.random.default_rng(3).normal(0.7, 0.5, (4000, 4)))
    ends = np.array([drawing.interval(row)[1:] for row in draws])
    covered = np.mean((ends[:, 0] < np.exp(0.7)) & (np.exp(0.7) < ends[:, 1]))
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_interval_of_one_value_has_no_ends():
    """If this fails, a single seed is drawn as if its spread were known."""
    centre, low, high = drawing.interval([0.3])
    assert centre == 0.3
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("values", [[], [1.0, 0.0], [1.0, -2.0], [1.0, math.nan], [math.inf]])
def test_interval_refuses_what_has_no_logarithm(values):
    """If this fails, a figure drops or invents values without a word."""
    with pytest.raises(UsageError, match="all positive and finite"):
        drawing.interval(values)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_equal_figures_make_equal_files(tmp_path, suffix):
    """If this fails, committed figures change with every run."""
    first = drawing.save(picture(), tmp_path / f"a{suffix}", note="seed 1")
    second = drawing.save(picture(), tmp_path / f"b{suffix}", note="seed 1")
    assert first.read_bytes() == second.read_bytes()
    assert len(first.read_bytes()) > 2000
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


def test_global_settings_are_left_alone_and_ignored(tmp_path):
    """If this fails, drawing changes the user's own figures, or the user's settings change ours."""
    expected = drawing.save(picture(), tmp_path / "a.svg").read_bytes()
    with matplotlib.rc_context({"font.size": 31.0, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        assert drawing.save(picture(), tmp_path / "b.svg").read_bytes() == expected
        assert dict(matplotlib.rcParams) == before


def test_a_figure_needs_a_known_suffix(tmp_path):
    """If this fails, a misspelt name writes a file of an unexpected kind."""
    with pytest.raises(UsageError, match=r"ends in \.svg or \.png"):
        drawing.save(picture(), tmp_path / "a.pdf")


def luminance(colour):
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("count", [1, 2, 6, 9])
def test_sequential_colours_get_lighter(count):
    """If this fails, order cannot be read off the lightness, which is all that some readers have."""
    light = [luminance(colour) for colour in drawing.sequential(count)]
    assert len(light) == count
    assert all(a < b for a, b in itertools.pairwise(light))
    assert max(light) < 0.75  # visible on white


def test_palette_is_that_of_okabe_and_ito():
    """If this fails, the colours are no longer those shown to be told apart with any colour vision."""
    rgb = {
        (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167),
        (230, 159, 0), (86, 180, 233), (0, 0, 0), (240, 228, 66),
    }  # fmt: skip
    assert {tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in drawing.PALETTE} == rgb


def test_samples_are_grouped_by_size():
    """If this fails, a point of a figure is drawn at another size, or from values that rounding left."""
    rows = [
        {"width": 8, "gap": 2.0, "loss": 4.0},
        {"width": 4, "gap": 3.0, "loss": 3.0},
        {"width": 8, "gap": 1.0, "loss": 1.0},
        {"width": 16, "gap": None, "loss": 1.0},
        {"width": 32, "gap": 1e-16, "loss": 1.0},
    ]
    assert drawing.samples_by_size(rows, "width", "gap", above=1e-15) == ([4, 8], [[3.0], [2.0, 1.0]])
    assert drawing.samples_by_size(rows[:3], "width", lambda r: r["gap"] / r["loss"]) == ([4, 8], [[1.0], [0.5, 1.0]])
