"""The reference behind the protocol: its numbers against derivatives taken by finite differences and by hand."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from pcbench.adapters.reference import compiled_for_speed, implementation
from pcbench.errors import ProblemError
from pcbench.problem.mlp import Problem
from pcbench.problem.network import Network
from pcbench.reference.compilation import CountedJit, compilations

REFERENCE = implementation()

# Every activation, both placements, both losses, with and without skips, depth 2 and width 1, in few programs.
CASES = {
    "tanh": Problem(input_dim=2, width=3, depth=4, output_dim=2, batch=3, activation="tanh", residual=True),
    "gelu-ce-after": Problem(
        input_dim=3, width=4, depth=3, output_dim=3, batch=2, activation="gelu", placement="after-weight", loss="ce",
        output_precision=0.3, residual=True,
    ),
    "depth2": Problem(
        input_dim=3, width=2, depth=2, output_dim=2, batch=2, activation="softplus", output_precision=2.5
    ),
    "width1": Problem(input_dim=1, width=1, depth=5, output_dim=1, batch=1, activation="silu", residual=True),
    "gelu-tanh-after": Problem(
        input_dim=2, width=3, depth=3, output_dim=1, batch=2, activation="gelu-tanh", placement="after-weight"
    ),
    "linear-ce": Problem(input_dim=2, width=2, depth=3, output_dim=2, batch=2, loss="ce"),
    "relu": Problem(input_dim=2, width=4, depth=3, output_dim=2, batch=2, activation="relu"),
}  # fmt: skip


def parts(problem: Problem):
    return problem.network(), problem.input(), problem.target(), problem.activities()


@pytest.mark.parametrize("name", CASES)
def test_activity_gradients_are_the_derivative_of_the_energy(name):
    """Inference would descend something that is not the energy."""
    network, x, y, z = parts(CASES[name])
    gradients = REFERENCE.activity_gradients(network, x, y, z)
    h, worst = 1e-6, 0.0
    for layer, array in enumerate(z):
        for index in np.ndindex(array.shape):
            moved = [[a.copy() for a in z] for _ in range(2)]
            moved[0][layer][index] += h
            moved[1][layer][index] -= h
            up, down = (REFERENCE.energy(network, x, y, m) for m in moved)
            worst = max(worst, abs(len(x) * (up - down) / (2 * h) - gradients[layer][index]))
    # Central differences: h^2 of truncation, and rounding of an energy of order 10 over h.
    assert worst < 1e-7


@pytest.mark.parametrize("name", CASES)
def test_weight_gradients_are_the_derivative_of_the_energy(name):
    """Learning would descend something that is not the energy, or with the sum over the batch for the mean."""
    network, x, y, z = parts(CASES[name])
    gradients = REFERENCE.weight_gradients(network, x, y, z)
    h = 1e-6
    for layer in range(network.depth):
        for index in np.ndindex(network.weights[layer].shape):
            energies = []
            for sign in (1, -1):
                weights = [w.copy() for w in network.weights]
                weights[layer][index] += sign * h
                energies.append(REFERENCE.energy(network.with_weights(weights), x, y, z))
            assert gradients[layer][index] == pytest.approx((energies[0] - energies[1]) / (2 * h), abs=1e-7)


def step_by_hand(network: Network, x: np.ndarray, y: np.ndarray, z: list[np.ndarray]):
    """Errors and one step's direction of a residual tanh network with `before-weight`, from the published formula."""
    a, tau, weights = network.scalings, network.skips, network.weights
    below = [x, *z]
    phi = [x, *map(np.tanh, z)]
    predictions = [tau[i] * below[i] + a[i] * phi[i] @ weights[i].T if tau[i] else a[i] * phi[i] @ weights[i].T
                   for i in range(network.depth)]  # fmt: skip
    errors = [u - f for u, f in zip([*z, y], predictions, strict=True)]
    back = []
    for i in range(network.depth - 1):
        above = (1 - phi[i + 1] ** 2) * (a[i + 1] * errors[i + 1] @ weights[i + 1])
        if tau[i + 1]:
            above = above + tau[i + 1] * errors[i + 1]
        back.append(errors[i] - above)
    return errors, back


def test_one_step_is_the_published_formula():
    """A wrong sign, a missing skip or a layer updated before its neighbour: the conventions would be false."""
    network, x, y, z = parts(CASES["tanh"])
    errors, direction = step_by_hand(network, x, y, z)
    result = REFERENCE.infer(network, x, y, 1, 0.25, z).activities
    for after, before, d in zip(result, z, direction, strict=True):
        np.testing.assert_allclose(after, before - 0.25 * d, rtol=0, atol=1e-14)
    each = [0.5 * np.mean(np.sum(e**2, axis=1)) for e in errors]
    np.testing.assert_allclose(REFERENCE.layer_energies(network, x, y, z), each, rtol=1e-13)


def test_steps_compose_and_zero_steps_change_nothing():
    """Inference of 5 steps would not be inference of 2 and then 3, and laws about time could not be stated."""
    network, x, y, z = parts(CASES["tanh"])
    assert all(
        np.array_equal(a, b) for a, b in zip(REFERENCE.infer(network, x, y, 0, 0.1, z).activities, z, strict=True)
    )
    half = REFERENCE.infer(network, x, y, 2, 0.1).activities
    split = REFERENCE.infer(network, x, y, 3, 0.1, list(half)).activities
    whole = REFERENCE.infer(network, x, y, 5, 0.1).activities
    np.testing.assert_allclose(np.array(split), np.array(whole), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["tanh", "gelu-ce-after", "depth2"])
def test_variants_give_the_gradient_of_the_loss(name):
    """The two modifications of PC that equal backpropagation would not: the loss is differentiated numerically."""
    network, x, y, _ = parts(CASES[name])
    h = 1e-6
    fixed = REFERENCE.fixed_prediction_gradients(network, x, y)
    divergence = REFERENCE.zero_divergence_gradients(network, x, y)
    for layer in range(network.depth):
        for index in np.ndindex(network.weights[layer].shape):
            losses = []
            for sign in (1, -1):
                weights = [w.copy() for w in network.weights]
                weights[layer][index] += sign * h
                moved = network.with_weights(weights)
                losses.append(REFERENCE.energy(moved, x, y, list(REFERENCE.infer(moved, x, y, 0, 0.0).activities)))
            expected = pytest.approx((losses[0] - losses[1]) / (2 * h), abs=1e-7)
            assert fixed[layer][index] == expected
            assert divergence[layer][index] == expected


def test_training_is_inference_then_descent():
    """`train` would not be the loop of `infer` and `weight_gradients` that it claims to be."""
    network, x, y, _ = parts(CASES["tanh"])
    trained, current = REFERENCE.train(network, x, y, 3, 0.05, 4, 0.1), network
    for _ in range(3):
        activities = list(REFERENCE.infer(current, x, y, 4, 0.1).activities)
        gradients = REFERENCE.weight_gradients(current, x, y, activities)
        current = current.with_weights([w - 0.05 * g for w, g in zip(current.weights, gradients, strict=True)])
    for got, expected in zip(trained, current.weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def every_answer(problem: Problem, steps: int, step_size: float, reference=REFERENCE):
    network, x, y, z = parts(problem)
    yield from reference.infer(network, x, y, steps, step_size).activities
    yield from reference.infer(network, x, y, steps, step_size, z).activities
    yield reference.predict(network, x)
    yield reference.layer_energies(network, x, y, z)
    yield from reference.activity_gradients(network, x, y, z)
    yield from reference.weight_gradients(network, x, y, z)
    yield from reference.equilibrium(network, x, y).activities
    yield from reference.train(network, x, y, steps, step_size, steps, step_size)
    yield from reference.fixed_prediction_gradients(network, x, y)
    yield from reference.zero_divergence_gradients(network, x, y)


def test_nothing_recompiles_for_new_values():
    """Every draw of a seed, step size, precision or scaling would cost a compilation, and a run hours."""
    problem = CASES["tanh"]
    list(every_answer(problem, 2, 0.1))
    before = REFERENCE.compilations()
    changed = problem.replace(
        seed=9, output_precision=0.2, output_multiplier=3.0, residual=False, parameterisation="ntp", weight_scale=0.5
    )
    list(every_answer(changed, 7, 0.03))
    assert REFERENCE.compilations() == before
    list(every_answer(problem.replace(batch=4), 2, 0.1))
    assert REFERENCE.compilations() > before, "the counter counts nothing"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_have_the_dtype_of_the_network_whatever_the_process_has_chosen(dtype):
    """float64 problems would be computed in float32, or float32 ones in float64, without a word."""
    assert not jax.config.read("jax_enable_x64"), "the process is in its default state"
    for answer in every_answer(CASES["width1"].replace(dtype=dtype), 3, 0.1):
        assert answer.dtype == dtype
        assert np.isfinite(answer).all()
    assert not jax.config.read("jax_enable_x64"), "the adapter switches x64 on inside its calls only"


def test_float32_agrees_with_float64_to_its_rounding():
    """A float32 path with other arithmetic than the float64 path."""
    problem = CASES["tanh"].replace(dtype="float32")
    network, x, y, z = parts(problem)
    single = REFERENCE.infer(network, x, y, 5, 0.1, z).activities
    wide = REFERENCE.infer(
        network.astype("float64"), x.astype(float), y.astype(float), 5, 0.1, [a.astype(float) for a in z]
    ).activities
    np.testing.assert_allclose(np.array(single), np.array(wide), rtol=0, atol=2e-6)


def test_inputs_are_left_alone_and_answers_are_the_callers():
    """A caller's arrays would change under it, or its answers could not be written to."""
    network, x, y, z = parts(CASES["tanh"])
    given = [*network.weights, x, y, *z]
    copies = [a.copy() for a in given]
    for a in given:
        a.setflags(write=False)
    result = REFERENCE.infer(network, x, y, 3, 0.1, z).activities
    result[0][...] = 0.0
    assert all(np.array_equal(a, b) for a, b in zip(given, copies, strict=True))


def test_large_and_small_programs_agree():
    """What is asked one by one at large sizes would differ from the shared program of small sizes."""
    import pcbench.adapters.reference as module

    shared = list(every_answer(CASES["tanh"], 3, 0.1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SMALL", -1)
        before = compilations("_run")
        alone = list(every_answer(CASES["tanh"], 3, 0.1))
        assert compilations("_run") > before
    for a, b in zip(shared, alone, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)


def test_what_is_timed_is_compiled_for_speed(monkeypatch):
    """If this fails, benchmarks time programs that were compiled to be compiled fast, or ones that answer otherwise."""

    def refuse(self):
        raise AssertionError("compiled fast")

    usual = list(every_answer(CASES["width1"], 3, 0.1))
    monkeypatch.setattr(CountedJit, "fast", property(refuse))
    quick = list(every_answer(CASES["width1"], 3, 0.1, compiled_for_speed()))
    for a, b in zip(usual, quick, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)
    with pytest.raises(AssertionError, match="compiled fast"):  # the trap works
        REFERENCE.predict(*parts(CASES["width1"])[:2])


def test_unequal_hidden_widths_are_refused():
    """Stacking would fail with a message about shapes deep inside NumPy."""
    network = Network(
        weights=(np.ones((2, 1)), np.ones((3, 2)), np.ones((1, 3))), scalings=(1.0,) * 3, skips=(0.0,) * 3
    )
    with pytest.raises(ProblemError, match=r"hidden widths \[2, 3\]"):
        REFERENCE.predict(network, np.ones((1, 1)))
