"""Convolutional networks and transformers as PCNs: the exact laws of any chain, independent forward passes, limits."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcbench.errors import ProblemError
from pcbench.problem import arrays
from pcbench.problem.architectures import ArchitectureProblem
from pcbench.reference.architectures import chain as chains
from pcbench.reference.architectures import equilibrium as chain_equilibrium
from pcbench.reference.architectures.chain import Chain
from pcbench.reference.architectures.models import chain_of
from pcbench.reference.compilation import compilations, counted_jit

BATCH, TOKENS, WORDS = 3, 4, 5
Case = tuple[Chain, Any, Any]
ROUNDING = 1e-14
"""Activities of size 1, computed in two ways."""


def residual_cnn(**settings: Any) -> Chain:
    return chain_of(ArchitectureProblem(kind="cnn", batch=BATCH, **settings).architecture())


def transformer(**settings: Any) -> Chain:
    plain = {"kind": "transformer", "batch": BATCH, "activation": "gelu", "loss": "ce"}
    return chain_of(ArchitectureProblem(**(plain | settings)).architecture())


def cnn(**changes: Any) -> Case:
    """A residual CNN of 4x4 images with Gaussian input and target."""
    settings: dict[str, Any] = {"seed": 0, "side": 4, "channels": 2, "width": 3, "stages": 1, "blocks": 3, "classes": 3}
    settings = settings | changes
    side, seed = settings["side"], settings["seed"]
    x = arrays.normal(seed, "input", BATCH, side, side, settings["channels"])
    return residual_cnn(**settings), x, arrays.normal(seed, "target", BATCH, settings["classes"])


def language(**changes: Any) -> Case:
    """A causal transformer that is to predict a word for each token."""
    settings: dict[str, Any] = {"seed": 0, "tokens": TOKENS, "width": 8, "blocks": 3, "heads": 2}
    settings = settings | {"vocabulary": WORDS} | changes
    words = np.argmax(arrays.one_hot(settings["seed"], "input", BATCH * TOKENS, WORDS), axis=1).reshape(BATCH, TOKENS)
    target = arrays.one_hot(settings["seed"], "target", BATCH * TOKENS, WORDS).reshape(BATCH, TOKENS, WORDS)
    return transformer(outputs=WORDS, **settings), words, target


def regression(**changes: Any) -> Case:
    """A normalised transformer of continuous inputs, linear attention that sees all tokens, activities per branch."""
    settings: dict[str, Any] = {"seed": 4, "tokens": TOKENS, "width": 12, "blocks": 2, "heads": 3, "input_dim": 2}
    kind = {"latents": "branch", "softmax": False, "normalised": True, "causal": False, "activation": "tanh"}
    x, y = arrays.normal(2, "input", BATCH, TOKENS, 2), arrays.normal(2, "target", BATCH, TOKENS, 3)
    return transformer(outputs=3, loss="mse", output_precision=0.6, **(settings | kind | changes)), x, y


CASES = {"cnn": cnn, "language": language, "regression": regression}
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@counted_jit()
def state(chain: Chain, x: Any, y: Any, start: Any, given: Any, steps: Any, step_size: Any) -> dict[str, Any]:
    """What there is to know after inference from `start`, or from the feedforward pass."""
    feedforward, output = chain.forward(x)
    z = jax.tree.map(lambda a, b: jnp.where(given, a, b), start, feedforward)
    z = chains.infer(chain, x, y, z, steps, step_size)
    each, slope, gradient = chains.energies_and_gradients(chain, x, y, z)
    bp = chains.backpropagation(chain, x, y)
    return {"z": z, "output": output, "each": each, "slope": slope, "gradient": gradient, "bp": bp,
            "errors": chain_equilibrium.errors_of(chain, x, z)}  # fmt: skip


outputs = jax.jit(lambda chain, x: chain.forward(x)[1])
in_error_space = counted_jit()(chain_equilibrium.energy_and_gradient)


def run_steps(case: Case, steps: int = 0, step_size: float = 0.1, start: Any = None) -> dict[str, Any]:
    shapes = jax.eval_shape(lambda c, x: c.forward(x)[0], *case[:2])
    given, zero = start is not None, tuple(np.zeros(s.shape, s.dtype) for s in shapes)
    found = state(*case, start if given else zero, np.bool_(given), np.int64(steps), np.float64(step_size))
    return jax.tree.map(np.asarray, found)


def random_like(tree: Any, role: str, scale: float = 1.0) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    drawn = [scale * arrays.normal(0, f"{role}/{i}", *leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, drawn)


def largest(tree: Any) -> float:
    return max((float(np.abs(leaf).max()) for leaf in jax.tree.leaves(tree)), default=0.0)


def inner(a: Any, b: Any) -> float:
    return sum(float(np.sum(x * y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def displace(a: Any, b: Any, by: float) -> Any:
    return jax.tree.map(lambda x, y: np.asarray(x + by * y), a, b)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


# ---- exact laws of any chain ------------------------------------------------------------------------------------


@EVERY
def test_at_the_feedforward_pass_the_energy_is_the_loss_and_only_the_readout_learns(case):
    """If this fails, the energy has another loss than backpropagation, or a hidden error starts away from 0."""
    chain, x, y = case()
    found = run_steps((chain, x, y))
    output = np.asarray(found["output"])
    if chain.loss == "mse":
        loss = 0.5 * np.sum((y - output) ** 2) / BATCH
    else:
        loss = np.sum(y * (np.log(np.sum(np.exp(output), axis=-1, keepdims=True)) - output)) / BATCH
    assert float(found["each"].sum()) == pytest.approx(float(chain.precision) * loss, rel=1e-13)
    assert largest((found["each"][:-1], found["gradient"][:-1])) < ROUNDING
    np.testing.assert_allclose(found["gradient"][-1], found["bp"][-1], rtol=1e-12, atol=1e-15)
    assert all(largest(g) > 1e-4 for g in jax.tree.leaves(found["bp"]))


@EVERY
def test_gradients_are_the_slopes_of_the_energy(case):
    """If this fails, a gradient of activities or parameters is not the derivative of the energy that is reported."""
    chain, x, y = case()
    z = random_like(run_steps((chain, x, y))["z"], "activities")
    found, step = run_steps((chain, x, y), start=z), 1e-5
    along, about = random_like(z, "direction"), random_like(chain.parameters, "turn")

    def energy(parameters: Any, z: Any) -> float:
        return float(run_steps((chain.with_parameters(parameters), x, y), start=z)["each"].sum())

    ends = [energy(chain.parameters, displace(z, along, s)) for s in (step, -step)]
    assert inner(found["slope"], along) / BATCH == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)
    ends = [energy(displace(chain.parameters, about, s), z) for s in (step, -step)]
    assert inner(found["gradient"], about) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


@EVERY
def test_the_target_reaches_one_layer_further_with_each_step(case):
    """If this fails, layers are not updated all at once, or some layer sees more than its neighbours."""
    chain, x, y = case()
    for steps in range(chain.depth):
        found = run_steps((chain, x, y), steps, 0.5)
        untouched = chain.depth - steps - 1  # layers below L - t
        assert largest(found["errors"][:untouched]) < ROUNDING
        assert all(largest(e) > 1e-6 for e in found["errors"][untouched:])


@EVERY
def test_samples_are_independent(case):
    """If this fails, what inference does with one sample depends on the others."""
    chain, x, y = case()
    one = run_steps((chain, x, y), 5)["z"]
    y = y.copy()
    y[0] = y[0, ..., ::-1] + (1.0 if chain.loss == "mse" else 0.0)
    other = run_steps((chain, x, y), 5)["z"]
    assert all(np.array_equal(a[1:], b[1:]) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[-1][0], other[-1][0])


@EVERY
def test_energy_falls_during_inference(case):
    """If this fails, inference does not descend the energy."""
    net = case()
    energies = [float(run_steps(net, steps, 0.05)["each"].sum()) for steps in range(0, 40, 4)]
    assert np.all(np.diff(energies) < 0)


@EVERY
def test_the_energy_is_the_same_as_a_function_of_errors(case):
    """If this fails, the solver in error space minimises something else than the energy."""
    chain, x, y = case()
    found = run_steps((chain, x, y), start=random_like(run_steps((chain, x, y))["z"], "activities"))
    each, _ = in_error_space(chain, x, y, found["errors"])
    assert float(np.mean(each)) == pytest.approx(float(found["each"].sum()), rel=1e-12)


@EVERY
def test_equilibria_are_stationary_certified_and_obey_the_envelope_theorem(case):
    """If this fails, the solver stops elsewhere, or a certificate is below the gap it bounds."""
    chain, x, y = case()
    best = chain_equilibrium.solve(chain, x, y, tolerance=1e-26)
    found = run_steps((chain, x, y), start=best.activities)
    assert best.certified
    assert best.energy < float(run_steps((chain, x, y))["each"].sum())
    assert largest(found["slope"]) < 1e-10
    for tolerance in (1e-1, 1e-2, 1e-4):
        rough = chain_equilibrium.solve(chain, x, y, tolerance=tolerance)
        assert rough.certified
        assert -1e-13 <= rough.energy - best.energy <= np.mean(rough.certificate) + 1e-13
    assert rough.evaluations < best.evaluations
    about, step = random_like(chain.parameters, "turn"), 2e-5

    def equilibrium_energy(by: float) -> float:
        other = chain.with_parameters(displace(chain.parameters, about, by))
        return chain_equilibrium.solve(other, x, y, tolerance=1e-26, certify=False).energy

    slope = (equilibrium_energy(step) - equilibrium_energy(-step)) / (2 * step)
    assert inner(found["gradient"], about) == pytest.approx(slope, rel=1e-6)


def test_values_do_not_recompile():
    """If this fails, a new seed or another parameterisation of the same shapes costs a compilation."""
    for first, others in (
        (cnn(), [cnn(seed=1), cnn(parameterisation="mupc-limits", gain=5 / 3), cnn(parameterisation="sp")]),
        (language(), [language(seed=1, output_multiplier=2.0), language(parameterisation="mupc-limits")]),
    ):
        run_steps(first, 3)
        chain_equilibrium.solve(*first)
        before = compilations()
        for other in others:
            run_steps(other, 5)
            chain_equilibrium.solve(*other, tolerance=1e-5)
        assert compilations() == before


def test_more_blocks_are_no_larger_program():
    """If this fails, compiling a transformer or a CNN takes time in proportion to its depth."""

    def products(case: Case) -> int:
        z = jax.eval_shape(lambda c, x: c.forward(x)[0], *case[:2])
        text = jax.make_jaxpr(chains.activity_gradients)(*case, z).pretty_print()
        return text.count("dot_general") + text.count("conv_general_dilated[")

    assert products(language(blocks=12)) == products(language(blocks=4))
    assert products(cnn(blocks=9)) == products(cnn(blocks=3))


# ---- independent forward passes ---------------------------------------------------------------------------------


def convolution_matrix(weight: np.ndarray, side: int) -> np.ndarray:
    """A 3x3 convolution with zero padding as a dense matrix on images ravelled as (row, column, channel)."""
    fan_out, _, _, fan_in = weight.shape
    matrix = np.zeros((side, side, fan_out, side, side, fan_in))
    for row in range(side):
        for column in range(side):
            for i in range(3):
                for j in range(3):
                    r, c = row + i - 1, column + j - 1
                    if 0 <= r < side and 0 <= c < side:
                        matrix[row, column, :, r, c, :] = weight[:, i, j, :]
    return matrix.reshape(side * side * fan_out, side * side * fan_in)


def pooling_matrix(side: int, channels: int) -> np.ndarray:
    """Average pooling as a dense matrix."""
    half = side // 2
    matrix = np.zeros((half, half, channels, side, side, channels))
    for row in range(side):
        for column in range(side):
            for c in range(channels):
                matrix[row // 2, column // 2, c, row, column, c] = 0.25
    return matrix.reshape(half * half * channels, side * side * channels)


def cnn_layers(chain: Chain, settings: dict[str, Any]) -> list[tuple[np.ndarray, bool]]:
    """The dense matrix of each layer of `cnn(**settings)` with its mupc multiplier, and whether it has a skip."""
    side, width, channels = settings["side"], settings["width"], settings["channels"]
    stages, blocks = settings["stages"], settings["blocks"]
    weights = [np.asarray(w) for w in chain.parameters if not isinstance(w, tuple)]
    depth, found = len(weights), []
    for stage in range(stages):
        fan_in = 9 * (width if stage else channels)
        found.append((convolution_matrix(weights.pop(0), side) / math.sqrt(fan_in), False))
        for _ in range(blocks):
            found.append((convolution_matrix(weights.pop(0), side) / math.sqrt(9 * width * depth), True))
        found.append((pooling_matrix(side, width), False))
        side //= 2
    found.append((weights.pop(0) / (width * side), False))
    return found


CNN = {"side": 8, "channels": 2, "width": 3, "stages": 2, "blocks": 2}


def test_the_cnn_is_the_documented_one():
    """If this fails, padding, pooling, the place of the activation, a skip or a scaling is not as documented."""
    chain, x, y = cnn(**CNN)
    z = x.reshape(BATCH, -1)
    for matrix, skip in cnn_layers(chain, CNN):
        z = z + np.tanh(z) @ matrix.T if skip else z @ matrix.T
    np.testing.assert_allclose(run_steps((chain, x, y))["output"], z, rtol=1e-12, atol=1e-14)


def test_the_equilibrium_of_a_linear_cnn_is_the_closed_form():
    r"""If this fails, the equilibrium energy is not (1/2B) sum r^T S^-1 r, S = I/lambda + sum J_l J_l^T."""
    chain, x, y = cnn(**CNN, activation="linear", output_precision=1.7)
    J, S, output = np.eye(3), np.eye(3) / 1.7, x.reshape(BATCH, -1)
    operators = [matrix + np.eye(len(matrix)) if skip else matrix for matrix, skip in cnn_layers(chain, CNN)]
    for operator in operators:
        output = output @ operator.T
    for operator in operators[:0:-1]:
        J = J @ operator
        S = S + J @ J.T
    r = y - output
    expected = 0.5 * np.einsum("bi,ij,bj->", r, np.linalg.inv(S), r) / BATCH
    found = chain_equilibrium.solve(chain, x, y, tolerance=1e-26)
    assert found.energy == pytest.approx(expected, rel=1e-12)
    assert found.certified
    assert np.all(found.curvature == 1)


def softmax(a: np.ndarray) -> np.ndarray:
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def forward_by_hand(chain: Chain, z: np.ndarray, *, heads: int, linear: bool) -> np.ndarray:
    """The blocks and head of the mupc transformer, token by token and head by head, from embedded tokens."""
    width, blocks = z.shape[-1], list(chain.parameters[1:-1])
    branches = sum(len(p) // 2 for p in blocks)

    def normalise(z: np.ndarray) -> np.ndarray:
        if not linear:
            return z
        return (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)

    def attention(p: dict[str, np.ndarray], z: np.ndarray) -> np.ndarray:
        units, found = width // heads, np.zeros_like(z)
        q, k, v = (z @ m.T / math.sqrt(width) for m in np.split(np.asarray(p["mixing"]), 3))
        for h in range(heads):
            part = slice(h * units, (h + 1) * units)
            for b in range(len(z)):
                for t in range(TOKENS):
                    seen = TOKENS if linear else t + 1
                    logits = k[b, :seen, part] @ q[b, t, part] / units
                    found[b, t, part] = (logits / seen if linear else softmax(logits)) @ v[b, :seen, part]
        return found @ p["joining"].T / math.sqrt(width)

    def mlp(p: dict[str, np.ndarray], z: np.ndarray) -> np.ndarray:
        drive = z @ p["widening"].T / math.sqrt(width)
        gelu = 0.5 * drive * (1 + np.vectorize(math.erf)(drive / math.sqrt(2)))
        return (np.tanh(drive) if linear else gelu) @ p["narrowing"].T / math.sqrt(4 * width)

    for p in blocks:
        if "mixing" in p:
            z = z + attention(p, normalise(z)) / math.sqrt(branches)
        if "widening" in p:
            z = z + mlp(p, normalise(z)) / math.sqrt(branches)
    return normalise(z) @ chain.parameters[-1].T / width


def test_the_transformer_is_the_documented_one():
    """If this fails, attention, its mask, the normalisation, the MLP or a scaling is not as documented."""
    chain, words, y = language()
    embedded = (chain.parameters[0]["token"][words] + chain.parameters[0]["position"]) / math.sqrt(2)
    expected = forward_by_hand(chain, embedded, heads=2, linear=False)
    np.testing.assert_allclose(run_steps((chain, words, y))["output"], expected, rtol=1e-11)
    chain, x, y = regression()
    embedded = (x @ chain.parameters[0]["token"].T / math.sqrt(2) + chain.parameters[0]["position"]) / math.sqrt(2)
    expected = forward_by_hand(chain, embedded, heads=3, linear=True)
    np.testing.assert_allclose(run_steps((chain, x, y))["output"], expected, rtol=1e-11)


@pytest.mark.parametrize("softmaxed", [True, False])
def test_a_causal_transformer_does_not_see_the_future(softmaxed):
    """If this fails, a token's prediction uses the tokens that it is to predict, or is not a number."""
    chain, words, _ = language(softmax=softmaxed)
    later = words.copy()
    later[:, -1] = (later[:, -1] + 1) % WORDS
    one, other = (np.asarray(outputs(chain, w)) for w in (words, later))
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one[:, :-1], other[:, :-1])
    assert not np.allclose(one[:, -1], other[:, -1])


# ---- limits -----------------------------------------------------------------------------------------------------


def departure(case: Case) -> tuple[float, float]:
    """Loss over equilibrium energy less 1, and the relative error of PC's gradient, at a certified equilibrium."""
    chain, x, y = case
    equilibrium = chain_equilibrium.solve(chain, x, y, tolerance=1e-20)
    assert equilibrium.certified
    found = run_steps(case, start=equilibrium.activities)
    loss = float(run_steps(case)["each"].sum())
    difference = jax.tree.map(lambda a, b: a - b, found["gradient"], found["bp"])
    return loss / equilibrium.energy - 1, math.sqrt(inner(difference, difference) / inner(found["bp"], found["bp"]))


@pytest.mark.parametrize(("case", "narrow", "wide"), [(cnn, 3, 24), (language, 8, 32)], ids=["cnn", "transformer"])
def test_pc_tends_to_backpropagation_with_the_width(case, narrow, wide):
    """If this fails, mupc is not mupc: both differences fall as 1/N, slower where N is small."""
    ratio = wide / narrow
    (energy, gradient), (wide_energy, wide_gradient) = departure(case(width=narrow)), departure(case(width=wide))
    assert energy > 0.03, "a setting in which the limit is not trivial"
    assert ratio**0.6 < energy / wide_energy < ratio**1.5
    assert ratio**0.5 < gradient / wide_gradient < ratio**1.5


def test_settings_in_which_the_limit_is_trivial():
    """If this fails, a comparison over widths in the settings of arXiv 2602.07697 looks like a test of the limit."""
    large = {"side": 32, "stages": 1, "width": 2}
    ours, theirs = cnn(**large), cnn(**large, parameterisation="mupc-limits")
    assert departure(ours)[0] > 0.1
    energy, gradient = departure(theirs)
    assert energy < 0.01
    assert gradient < 0.1


def test_equal_energy_and_loss_do_not_make_the_gradients_equal():
    """If this fails, small initial weights would be thought to make PC backpropagation: they do to the energy only."""
    theirs = language(parameterisation="mupc-limits")
    energy, gradient = departure(theirs)
    assert energy < 1e-3
    assert gradient > 0.1


def test_without_scaling_by_width_there_is_no_limit():
    """If this fails, the differences between PC and backpropagation vanish for another reason than mupc."""
    narrow, wide = (departure(cnn(width=n, parameterisation="sp"))[0] for n in (3, 12))
    assert wide > 0.7 * narrow > 0.1


# ---- construction -----------------------------------------------------------------------------------------------


def test_scalings_and_initial_variances():
    """If this fails, a parameterisation is not the documented one (literal numbers for small sizes)."""
    sizes: dict[str, Any] = {
        "seed": 0,
        "side": 4,
        "channels": 1,
        "width": 4,
        "stages": 1,
        "blocks": 1,
        "classes": 2,
        "gain": 2.0,
    }
    for name, expected in (
        ("sp", (1, 2, 1)),
        ("mupc", (1 / 3, 2 / math.sqrt(9 * 4 * 3), 1 / 8)),
        ("mupc-limits", (1 / 3, 2 / math.sqrt(9 * 4 * 3), 1 / 16)),
    ):
        chain = residual_cnn(**sizes, parameterisation=name)
        np.testing.assert_allclose([s for s in chain.scalings if not isinstance(s, tuple)], expected, rtol=1e-15)
    plain, scaled = (residual_cnn(**sizes, parameterisation=name).parameters for name in ("mupc", "sp"))
    np.testing.assert_allclose(np.asarray(plain[1]) / scaled[1], 6.0, rtol=1e-14)
    sizes = {"seed": 0, "tokens": 2, "width": 16, "blocks": 2, "heads": 4, "outputs": 2, "vocabulary": 3}
    for name, block, head in (
        ("sp", {"narrow": 1, "wide": 1, "logit": 0.5, "branch": 1}, 1),
        ("mupc", {"narrow": 0.25, "wide": 0.125, "logit": 0.25, "branch": 0.5}, 1 / 16),
        ("mupc-limits", {"narrow": 1, "wide": 1, "logit": 0.25, "branch": 0.5}, 1 / 16),
    ):
        chain = transformer(**sizes, parameterisation=name)
        assert chain.scalings[1] == block
        assert chain.scalings[-1] == head
    unit, small = (transformer(**sizes, parameterisation=name).parameters for name in ("mupc", "mupc-limits"))
    np.testing.assert_allclose(small[1]["widening"] / unit[1]["widening"], 0.02, rtol=1e-14)


def test_latents_per_branch_are_the_same_function():
    """If this fails, giving the branches of a block activities of their own changes what the network computes."""
    whole, words, _ = language()
    parts, _, _ = language(latents="branch")
    assert (whole.depth, parts.depth) == (5, 8)
    np.testing.assert_allclose(outputs(whole, words), outputs(parts, words), rtol=1e-12)


def test_float32_stays_float32():
    """If this fails, a float32 network is computed in float64 by accident."""
    for chain, x, _ in (cnn(dtype="float32"), language(dtype="float32")):
        x = x if x.dtype.kind == "i" else x.astype(np.float32)
        z, output = jax.eval_shape(lambda c, x: c.forward(x), chain, x)
        assert {a.dtype for a in (*z, output)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cnn(side=6, stages=2), r"side=6 with 2 poolings by 2: needed a multiple"),
        (lambda: cnn(width=0), r"width=0: needed 1 or more"),
        (lambda: cnn(blocks=-1), r"blocks=-1: needed 0 or more"),
        (lambda: cnn(parameterisation="ntp"), r"parameterisation='ntp': needed one of sp, mupc, mupc-limits"),
        (lambda: language(width=7), r"width=7 with 2 heads: needed a multiple of 2"),
        (lambda: language(blocks=0), r"blocks=0: needed 1 or more"),
        (lambda: language(latents="layer"), r"latents='layer': needed one of block, branch"),
        (lambda: language(input_dim=2), r"vocabulary=5, input_dim=2: needed one of them"),
        (lambda: language(vocabulary=0), r"vocabulary=0, input_dim=0: needed one of them"),
    ],
)
def test_what_is_refused(build, message):
    """If this fails, sizes that fit no network end in an error about shapes."""
    with pytest.raises(ProblemError, match=message):
        build()
