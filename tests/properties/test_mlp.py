"""The strategies themselves: palettes that hold what they promise, and problems inside every law's domain."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from pcbench.properties import mlp as strategies
from pcbench.properties.mlp import (
    Configuration,
    configurations,
    large_configurations,
    move_into,
    palette,
    problems,
    share,
)

from pcbench.adapters.numpy import NumpyPCN
from pcbench.laws import REGISTRY
from pcbench.laws.definition import Domain
from pcbench.problem.network import ACTIVATIONS, LOSSES, PLACEMENTS
from pcbench.protocol.implementation import Capabilities, Manifest
from pcbench.report.profiles import PROFILES
from pcbench.worker.subject import Subject

FULL = NumpyPCN.manifest.capabilities
COMPILED = replace(FULL, shapes="palette")
BARE = Capabilities()
SHORT_OF = {
    "everything, freely": FULL,
    "everything, compiled": COMPILED,
    "linear only": BARE,
    "float32 only": replace(COMPILED, dtypes=("float32",), precision=False),
    "after the weight": replace(COMPILED, placements=("after-weight",), activations=("linear", "tanh"), residual=False),
    "relu and cross-entropy": replace(COMPILED, activations=("relu",), losses=("ce",)),
    "no zero steps": replace(COMPILED, zero_steps=False, precision=False),
}
SEEDS = range(40)


def subject(capabilities):
    """A subject of which only what it claims is asked."""

    class Transport:
        manifest = Manifest(name="claims", capabilities=capabilities)
        methods = ("weight_gradients", "activity_gradients", "layer_energies", "equilibrium", "train",
                   "fixed_prediction_gradients", "zero_divergence_gradients", "compilations")  # fmt: skip
        last_meta = {}  # noqa: RUF012  (never written to)

    return Subject(Transport(), respawn=lambda: Transport())  # type: ignore[arg-type]


def applicable_laws(capabilities):
    """The laws that can be judged on an implementation that claims these."""
    return [law for law in REGISTRY.values() if law.not_applicable_reason(subject(capabilities)) is None]


@st.composite
def claims(draw):
    """Capabilities that an implementation could have."""
    some = st.booleans()

    def subset(values):
        chosen = draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
        return tuple(v for v in values if v in chosen)

    return Capabilities(
        activations=subset(ACTIVATIONS), placements=subset(PLACEMENTS), losses=subset(LOSSES),
        dtypes=subset(("float64", "float32")), residual=draw(some), precision=draw(some),
        scalings=draw(st.sampled_from(("native", "folded"))), zero_steps=draw(some),
        shapes=draw(st.sampled_from(("free", "palette"))),
    )  # fmt: skip


# ---- palettes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [8, 16, 32])
def test_every_palette_holds_the_extreme_shapes(count):
    """If this fails, a run may miss width 1, an odd prime, two layers, deep and narrow, or wide and shallow."""
    for seed in SEEDS:
        chosen = palette(seed, COMPILED, count)
        assert len(chosen) == count
        assert any(c.width == 1 for c in chosen)
        assert any(c.width in (3, 5, 7, 11, 13) for c in chosen)
        assert any(c.depth == 2 for c in chosen)
        assert any(c.depth >= 12 and c.width <= 5 for c in chosen)
        assert any(c.depth == 2 and c.width >= 48 for c in chosen)


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_palette_holds_a_prime_and_width_one(seed):
    """If this fails, smoke runs miss the shapes that break most implementations."""
    chosen = palette(seed, COMPILED, PROFILES["smoke"].shapes)
    assert any(c.width == 1 for c in chosen)
    assert any(c.width in (3, 5, 7, 11, 13) for c in chosen)
    assert any(c.depth >= 12 for c in chosen)


def test_palettes_cover_every_pair_of_settings():
    """If this fails, a defect of, say, cross-entropy with skips is found by luck only."""
    wanted = {"activation": ACTIVATIONS, "placement": PLACEMENTS, "loss": LOSSES, "residual": (False, True)}
    for seed in SEEDS:
        chosen = palette(seed, COMPILED, 16)
        for (a, values), (b, others) in itertools.combinations(wanted.items(), 2):
            seen = {(getattr(c, a), getattr(c, b)) for c in chosen}
            assert seen >= set(itertools.product(values, others)), (seed, a, b)
        assert {c.dtype for c in chosen} == {"float64", "float32"}


@pytest.mark.parametrize("capabilities", SHORT_OF.values(), ids=SHORT_OF)
def test_palettes_hold_only_what_is_claimed(capabilities):
    """If this fails, a run tests what the implementation says it cannot do."""
    for seed in range(5):
        for c in palette(seed, capabilities, 16):
            assert c.activation in capabilities.activations
            assert c.placement in capabilities.placements
            assert c.loss in capabilities.losses
            assert c.dtype in capabilities.dtypes
            assert capabilities.residual or not c.residual


def test_palettes_are_repeatable_ordered_and_differ_between_seeds():
    """If this fails, a report's palette seed does not give its palette back, or every run tests the same shapes."""
    first = palette(5, COMPILED, 16)
    assert palette(5, COMPILED, 16) == first
    assert list(first) == sorted(first, key=lambda c: c.size)
    assert len({tuple(c.shape for c in palette(s, COMPILED, 16)) for s in SEEDS}) == len(SEEDS)


def test_large_shapes_are_wide_and_not_deep():
    """If this fails, the laws of the limits are judged where nothing has converged (N = L), or on one shape."""
    for seed in SEEDS:
        chosen = large_configurations(seed)
        assert all(c.width >= 8 * c.depth for c in chosen)
        assert len({c.shape for c in chosen}) >= 10


def test_a_configuration_is_judged_in_one_group_by_all_laws():
    """If this fails, every process of a run compiles programs for every shape."""
    groups: dict[tuple[int, ...], set[int]] = {}
    for law in REGISTRY.values():
        chosen = configurations(law.domain, COMPILED, 7, 16)
        shares = [share(chosen, group, 4) for group in range(4)]
        assert {c for each in shares for c in each} == set(chosen)
        for group, each in enumerate(shares):
            for c in each:
                groups.setdefault((law.domain.large, c.place), set()).add(group)
    assert all(len(found) == 1 for found in groups.values())


# ---- configurations of a law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", SHORT_OF.values(), ids=SHORT_OF)
def test_every_law_sees_ten_shapes(capabilities):
    """If this fails, a law is judged on a handful of shapes, whatever the number of its examples."""
    few = {}
    for law in applicable_laws(capabilities):
        for seed in range(6):
            shapes = {c.shape for c in configurations(law.domain, capabilities, seed, 16)}
            if len(shapes) < 10:
                few.setdefault(law.id, []).append(len(shapes))
    assert not few


@given(st.data())
def test_move_into_lands_in_the_domain_and_in_the_claims(data):
    """If this fails, a law is judged outside its domain, or examples are thrown away."""
    capabilities = data.draw(claims())
    laws = applicable_laws(capabilities)
    if not laws:
        return
    law = data.draw(st.sampled_from(laws))
    seed = data.draw(st.integers(0, 1000))
    for index, c in enumerate(palette(seed, capabilities, 16)):
        moved = move_into(c, law.domain, capabilities, index)
        p = moved.problem(parameterisation="mupc", weight_law=law.domain.weight_laws[0])
        assert law.domain.admits(p), p.line()
        assert subject(capabilities).refuses(p) is None, p.line()


@pytest.mark.parametrize("law", REGISTRY.values(), ids=REGISTRY)
def test_move_into_for_every_law(law):
    """If this fails, this law is judged outside its domain on some palette."""
    for capabilities in SHORT_OF.values():
        if law.not_applicable_reason(subject(capabilities)) is not None:
            continue
        for seed in range(4):
            for c in configurations(law.domain, capabilities, seed, 16):
                p = c.problem(weight_law=law.domain.weight_laws[0], data_law=law.domain.data_laws[0])
                assert law.domain.admits(p), p.line()
                assert subject(capabilities).refuses(p) is None, p.line()


def test_move_into_keeps_what_is_already_inside():
    """If this fails, laws compile shapes of their own although the palette would have done."""
    for index, c in enumerate(palette(3, COMPILED, 16)):
        expected = replace(c, placement="before-weight" if c.activation == "linear" else c.placement)
        if c.loss == "ce":
            expected = replace(expected, output_dim=max(2, c.output_dim))
        assert move_into(c, Domain(), COMPILED, index) == expected


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("hidden_units", sorted({law.domain.hidden_units for law in REGISTRY.values()}))
def test_move_into_respects_the_size_of_the_hessian(hidden_units, square):
    """If this fails, laws with a dense Hessian are asked for one that does not fit."""
    domain = Domain(hidden_units=hidden_units, square=square, depth=(3, 64))
    for seed in SEEDS:
        for i, c in enumerate(palette(seed, COMPILED, 16)):
            p = move_into(c, domain, COMPILED, i).problem()
            assert p.width * (p.depth - 1) <= hidden_units
            assert p.depth >= 3
            assert not square or p.width > p.output_dim


# ---- problems -----------------------------------------------------------------------------------------------------


@given(st.data())
def test_drawn_problems_are_admitted_and_claimed(data):
    """If this fails, examples are wasted or laws are judged where they do not hold."""
    capabilities = data.draw(st.one_of(st.sampled_from(list(SHORT_OF.values())), claims()))
    laws = applicable_laws(capabilities)
    if not laws:
        return
    law = data.draw(st.sampled_from(laws))
    chosen = configurations(law.domain, capabilities, data.draw(st.integers(0, 50)), 16)
    for _ in range(4):
        p = data.draw(problems(law.domain, capabilities, chosen))
        assert law.domain.admits(p), p.line()
        assert subject(capabilities).refuses(p) is None, p.line()
        assert p.weight_scale in law.domain.weight_scales
        assert p.data_scale in law.domain.data_scales
        assert p.output_multiplier in law.domain.output_multipliers
        assert p.output_precision in (law.domain.output_precisions if capabilities.precision else (1.0,))
        assert capabilities.zero_steps or p.steps >= 1
        assert law.domain.steps[0] <= p.steps <= max(1, law.domain.steps[1])
        if capabilities.shapes == "palette":
            assert p.shape in {c.shape for c in chosen}


def sample(strategy, count=30):
    """Values of a strategy, without shrinking."""
    values = []

    @settings(max_examples=count, phases=[Phase.generate])
    @given(strategy)
    def collect(value):
        values.append(value)

    collect()
    return values


def test_shrinking_ends_at_the_plainest_problem():
    """If this fails, failures are reported on problems that are larger or odder than they need be."""
    chosen = configurations(Domain(), COMPILED, 0, 16)
    p = find(problems(Domain(), COMPILED, chosen), lambda p: True)
    smallest = chosen[0]
    assert p.shape == smallest.shape
    assert (p.parameterisation, p.weight_law, p.weight_scale, p.data_law, p.data_scale) == (
        "mupc", "gaussian", 1.0, "gaussian", 1.0,
    )  # fmt: skip
    assert (p.output_multiplier, p.output_precision, p.step_size, p.seed, p.steps) == (1.0, 1.0, 0.1, 0, 0)


def test_free_shapes_leave_the_palette_and_others_do_not():
    """If this fails, implementations that pay nothing for a shape are tested on sixteen of them only."""
    chosen = configurations(Domain(), FULL, 0, 16)
    known = {c.shape for c in chosen}
    assert any(p.shape not in known for p in sample(problems(Domain(), FULL, chosen)))


def test_everything_a_domain_names_is_drawn():
    """If this fails, a parameterisation, a law of matrices, a scale or a precision is never tested."""
    domain = Domain()
    drawn = sample(problems(domain, COMPILED, configurations(domain, COMPILED, 0, 4)), 300)
    for field, values in (
        ("parameterisation", ("sp", "ntp", "mupc", *strategies.EXPONENTS)),
        ("weight_law", domain.weight_laws),
        ("weight_scale", domain.weight_scales),
        ("data_law", domain.data_laws),
        ("data_scale", domain.data_scales),
        ("output_precision", domain.output_precisions),
        ("output_multiplier", domain.output_multipliers),
        ("step_size", strategies.STEP_SIZES),
    ):
        assert {getattr(p, field) for p in drawn} == set(values), field
    assert len({p.steps for p in drawn}) > 15
    assert len({p.seed for p in drawn}) > 50  # Hypothesis likes small ones


def test_settings_have_a_size():
    """If this fails, smallest first means something else than small."""
    small = Configuration(input_dim=9, width=1, depth=2, output_dim=1, batch=1)
    assert small.size < replace(small, width=2).size < replace(small, width=2, depth=3).size
