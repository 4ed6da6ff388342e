"""The layouts of an inference step: every one gives the activities of the definition, and none costs a retracing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcbench.adapters.reference import implementation
from pcbench.errors import UsageError
from pcbench.oracle import mlp as oracle
from pcbench.problem.mlp import Problem
from pcbench.reference.compilation import compilations, counted_jit
from pcbench.reference.gradients import activity_gradients_from
from pcbench.reference.inference import layout
from pcbench.reference.inference.groups import feedforward, group_activities, group_layers, stack_aligned
from pcbench.reference.inference.steps import infer, run_grouped
from pcbench.reference.network import PCN

CASES = {
    "tanh-before": Problem(input_dim=3, width=4, depth=7, output_dim=2, batch=3, activation="tanh", residual=True),
    "gelu-ce-after": Problem(
        input_dim=3, width=4, depth=7, output_dim=3, batch=2, activation="gelu", placement="after-weight", loss="ce",
        output_precision=0.3, residual=True,
    ),
    "linear-plain": Problem(input_dim=2, width=5, depth=6, output_dim=3, batch=2),
    "softplus-depth2": Problem(input_dim=2, width=3, depth=2, output_dim=2, batch=2, activation="softplus"),
    "relu-ce": Problem(input_dim=2, width=4, depth=5, output_dim=2, batch=2, activation="relu", loss="ce"),
    "silu-float32": Problem(
        input_dim=2, width=6, depth=5, output_dim=2, batch=4, activation="silu", placement="after-weight",
        residual=True, dtype="float32",
    ),
}  # fmt: skip
STEPS, ETA = 4, 0.05
PROGRAM = counted_jit(static=("groups", "tier"))(infer)


def final_activities(problem: Problem, start=None, steps=STEPS, **options):
    """The activities after some steps, by `infer`, from given activities."""
    network, real = PCN.from_network(problem.network()), np.dtype(problem.dtype).type
    start = np.stack(problem.activities()) if start is None else start
    with jax.enable_x64(True):
        return np.asarray(PROGRAM(network, problem.input(), problem.target(), start, steps, real(ETA), **options))


def oracle_activities(problem: Problem):
    """The same by the oracle, in float64."""
    network = problem.network()
    return np.stack(oracle.infer(network, problem.input(), problem.target(), STEPS, ETA, problem.activities()))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("groups", [1, 3, 99])
def test_every_layout_takes_the_steps_of_the_definition(name, groups):
    """If this fails, how layers are laid out changes what inference computes."""
    expected = oracle_activities(CASES[name])
    # A few roundings of each dtype, times 4 steps and sums of 6 terms, of activities of order 1.
    allowed = 200 * np.finfo(CASES[name].dtype).eps * (1 + np.abs(expected).max())
    assert np.abs(final_activities(CASES[name], groups=groups) - expected).max() < allowed


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_the_derivative_of_the_energy(name):
    """If this fails, the step that is written out is not the gradient of the energy that JAX differentiates."""
    problem = CASES[name]
    network, x, y, z = PCN.from_network(problem.network()), problem.input(), problem.target(), problem.activities()
    z = np.stack(z)
    with jax.enable_x64(True):
        # As one program: JAX would otherwise compile one for each of its operations.
        differentiated = jax.jit(activity_gradients_from)
        gradient = np.asarray(differentiated(network, network.bottom(jnp.asarray(x)), jnp.asarray(y), jnp.asarray(z)))
    expected = z - ETA * gradient
    allowed = 50 * np.finfo(problem.dtype).eps * (1 + np.abs(expected).max())
    assert np.abs(final_activities(problem, z, steps=1) - expected).max() < allowed


@pytest.mark.parametrize("stride", [1, 3])
def test_strides_of_known_length_take_exactly_the_steps_asked_for(monkeypatch, stride):
    """If this fails, a GPU takes another number of steps than a CPU."""
    problem = CASES["tanh-before"]
    once = [np.stack(problem.activities())]
    for _ in range(7):
        once.append(final_activities(problem, once[-1], steps=1))
    monkeypatch.setattr("pcbench.reference.inference.steps.strides", lambda: stride)
    jax.clear_caches()  # the stride is no argument, so a program of another stride would be taken again
    for steps in (0, 2, 3, 7):
        assert np.abs(final_activities(problem, steps=steps) - once[steps]).max() < 1e-13
    jax.clear_caches()


def test_the_runs_of_layers_are_neighbours_and_differ_by_one_at_most():
    """If this fails, a layer is left out or moved twice."""
    for layers in range(20):
        for groups in (1, 2, 8, 30):
            bounds = layout.group_bounds(layers, groups)
            assert [k for i, j in bounds for k in range(i, j)] == list(range(layers))
            lengths = [j - i for i, j in bounds]
            assert len(lengths) == min(groups, layers)
            assert not lengths or max(lengths) - min(lengths) <= 1


def test_the_rule_of_the_layout(monkeypatch):
    """If this fails, small problems compile large programs, or cores stand idle; the figures are in the docstring."""
    assert layout.groups_for(0, 64, 8) == 0
    assert layout.groups_for(1, 64, 8) == 1
    assert layout.groups_for(6, 7, 5) == 1  # of the size of a law's problem
    assert layout.groups_for(14, 32, 16) == 1
    assert layout.groups_for(126, 32, 16) == 8
    assert layout.groups_for(126, 64, 4) == 8
    assert layout.groups_for(14, 128, 2) == 14  # each worth a product of its own
    assert layout.groups_for(126, 128, 256) == 126
    assert layout.groups_for(126, 512, 1) == 1  # products with a vector
    assert layout.groups_for(126, 128, 1) == 14
    assert layout.groups_for(14, 128, 1) == 1
    assert layout.groups_for(126, 32, 2) == 8
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert layout.groups_for(126, 128, 256) == 1
    assert layout.groups_for(126, 2048, 1024) == 8


def test_new_values_of_equal_shape_do_not_retrace():
    """If this fails, every number of steps, step size or network costs a compilation."""
    problem = CASES["tanh-before"]
    final_activities(problem)
    before = compilations("infer")
    final_activities(problem, steps=9)
    final_activities(Problem(**{**vars(problem), "seed": 5, "parameterisation": "sp"}))
    assert compilations("infer") == before
    final_activities(problem, groups=2)
    assert compilations("infer") == before + 1


def test_long_inference_costs_the_adapter_programs_of_its_own(monkeypatch):
    """If this fails, long inference on small arrays is compiled fast and runs slowly, or is compiled every time."""
    reference = implementation()
    problem = Problem(input_dim=2, width=3, depth=4, output_dim=3, batch=3, activation="tanh", seed=3)
    arrays = problem.network(), problem.input(), problem.target()
    short = reference.infer(*arrays, 5, 0.1).activities
    before = {name: compilations(name) for name in ("_run", "run_grouped", "feedforward")}
    monkeypatch.setattr("pcbench.adapters.reference._LONG", 1)
    reference.infer(*arrays, 5, 0.1)
    long = reference.infer(*arrays, 5, 0.1).activities
    third = list(reference.infer(*arrays, 3, 0.1).activities)
    given = reference.infer(*arrays, 2, 0.1, third).activities
    assert [compilations(name) - n for name, n in before.items()] == [0, 1, 1]
    for other in (long, given):
        assert all(np.abs(a - b).max() < 1e-13 for a, b in zip(short, other, strict=True))


def grouped_arguments(problem: Problem, groups: int | None = None):
    """A problem as `run_grouped` takes it, on the device."""
    network = group_layers(problem.network(), problem.batch, groups)
    z = group_activities(network, [jnp.array(a) for a in problem.activities()])
    real = np.dtype(problem.dtype).type
    return (network, problem.input(), problem.target()), {"activities": z, "steps": STEPS, "step_size": real(ETA)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("groups", [1, 2, 99])
def test_what_is_cut_outside_the_program_takes_the_same_steps(name, groups):
    """If this fails, large networks are inferred otherwise than small ones."""
    expected = oracle_activities(CASES[name])
    allowed = 200 * np.finfo(CASES[name].dtype).eps * (1 + np.abs(expected).max())
    with jax.enable_x64(True):
        arrays, settings = grouped_arguments(CASES[name], groups)
        layers = run_grouped.donating(*arrays, **settings).layers()
    assert [z.shape for z in layers] == [expected[0].shape] * len(expected)
    assert all(z.flags.writeable for z in layers)
    assert np.abs(np.stack(layers) - expected).max() < allowed


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("groups", [1, 2, 99])
def test_the_feedforward_pass_by_groups_is_that_of_the_definition(name, groups):
    """If this fails, inference of large networks starts elsewhere."""
    problem = CASES[name]
    expected = np.stack(oracle.feedforward(problem.network(), problem.input()))
    with jax.enable_x64(True):
        layers = feedforward(group_layers(problem.network(), problem.batch, groups), problem.input()).layers()
    allowed = 50 * np.finfo(problem.dtype).eps * (1 + np.abs(expected).max())
    assert np.abs(np.stack(layers) - expected).max() < allowed


def test_cutting_copies_no_weights_of_groups_of_one():
    """If this fails, a wide network is held twice before inference begins."""
    network = CASES["tanh-before"].network()
    alone = group_layers(network, 3, 99)
    assert [np.shares_memory(a, b) for a, b in zip(alone.hidden, network.weights[1:-1], strict=True)] == [True] * 5
    assert alone.bounds == [(k, k + 1) for k in range(5)]
    assert group_layers(network, 3, 2).bounds == [(0, 2), (2, 5)]
    stacked = group_layers(PCN.from_network(network), 3, 2)
    assert all((a == b).all() for a, b in zip(stacked.hidden, group_layers(network, 3, 2).hidden, strict=True))


@pytest.mark.parametrize(
    ("width", "depth", "batch"), [(512, 4, 256), (512, 16, 64), (256, 4, 256), (128, 16, 512), (64, 32, 256)]
)
def test_inference_holds_weights_once_and_activities_four_times_at_most(width, depth, batch):
    """If this fails, weights are copied, or activities that are given away are not overwritten.

    The bytes are those the compiler planned: what it is given, what it gives back and what is not the same buffer, and
    all arrays between, with no word about time.
    """
    problem = Problem(
        input_dim=8, width=width, depth=depth, output_dim=4, batch=batch, activation="tanh", residual=True,
        dtype="float32",
    )  # fmt: skip
    arrays, settings = grouped_arguments(problem)
    plan = run_grouped.donating.lower(*arrays, **settings).compile().memory_analysis()
    state = 4 * (depth - 1) * batch * width
    assert plan.alias_size_in_bytes >= state
    beside = plan.output_size_in_bytes - plan.alias_size_in_bytes + plan.temp_size_in_bytes
    # The activation and the two products of every hidden layer, and some arrays of a layer in all.
    assert beside <= 3 * state + 2 * state / (depth - 1), f"{beside / state:.2f} times the activities"


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU has memory of its own")
def test_a_group_of_weights_is_read_where_it_is():
    """If this fails, every call copies the weights, into memory that is slower to read."""
    for dtype, width in (("float32", 7), ("float64", 96)):
        matrices = [np.full((width, width), l, dtype) for l in range(3)]
        with jax.enable_x64(dtype == "float64"):
            group = stack_aligned(matrices)
            assert jax.device_put(group).unsafe_buffer_pointer() == group.ctypes.data
        np.testing.assert_array_equal(group, np.stack(matrices))
        assert group.dtype == dtype


def test_only_a_call_that_donates_takes_the_callers_array():
    """If this fails, inference overwrites activities that somebody still holds."""
    arrays, settings = grouped_arguments(CASES["silu-float32"])
    kept = settings["activities"].layers()
    settings = {**settings, "activities": jax.tree.map(jax.numpy.array, settings["activities"])}  # on the device
    for program in (run_grouped, run_grouped.well):
        answer = program(*arrays, **settings).layers()
        assert not any(z.is_deleted() for z in jax.tree.leaves(settings["activities"]))
        assert all((a == b).all() for a, b in zip(settings["activities"].layers(), kept, strict=True))
    given = jax.tree.map(np.array, settings["activities"])
    donated = run_grouped.donating(*arrays, **settings).layers()
    # Other compilations may round the activation in another way.
    assert max(np.abs(a - b).max() for a, b in zip(donated, answer, strict=True)) < 1e-5
    assert all(z.is_deleted() for z in jax.tree.leaves(settings["activities"]))
    run_grouped.donating(*arrays, **{**settings, "activities": given})
    # Arrays of NumPy are the caller's in any case.
    assert all((a == b).all() for a, b in zip(given.layers(), kept, strict=True))


def test_bfloat16_is_as_far_from_float32_as_its_seven_bits():
    """If this fails, the tier does not reach the products, or reaches more than them."""
    problem = CASES["silu-float32"]
    exact, rounded = final_activities(problem), final_activities(problem, tier="bfloat16")
    apart = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 2.0**-20 < apart < 2.0**-6


@pytest.mark.parametrize(
    ("tier", "name", "message"),
    [
        ("half", "silu-float32", "tier='half': needed one of highest, tf32, bfloat16"),
        ("bfloat16", "tanh-before", "tier='bfloat16' of a network in float64: needed float32"),
        ("tf32", "silu-float32", "tier='tf32' on a CPU: only GPUs have it"),
    ],
)
def test_a_tier_that_cannot_be_is_refused(tier, name, message):
    """If this fails, a precision that was asked for is silently another."""
    if tier == "tf32" and jax.default_backend() != "cpu":
        pytest.skip("this device has it")
    with pytest.raises(UsageError, match=message):
        final_activities(CASES[name], tier=tier)
