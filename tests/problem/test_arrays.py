"""Random arrays: the same bits everywhere, and the distributions that they claim."""

import math
import zlib
from statistics import NormalDist

import numpy as np
import pytest

from pcbench.errors import ProblemError
from pcbench.problem import arrays

# Entries (0, 0), (2, 1) and (4, 3) of the (5, 4) matrix of seed 2026 and role "weights/1".
LITERALS = {
    "gaussian": ("-0x1.bbcd88130ba69p-4", "0x1.4845be6d48d0cp+0", "0x1.6deb1234a9a3fp-4"),
    "orthogonal": ("0x1.b6f32a623ac51p-2", "-0x1.4ee31206634b0p+0", "0x1.2eab0f65946c6p+0"),
    "low-rank": ("0x1.ceecd9f156e6cp-3", "0x1.63dc1b3afa212p-2", "0x1.02329fe97a3eep+2"),
    "zero": ("0x0.0p+0", "0x0.0p+0", "0x0.0p+0"),
    "ill-conditioned": ("-0x1.bbcd88130ba69p-4", "0x1.4845be6d48d0cp-6", "0x1.6deb1234a9a3fp-24"),
}


def philox_words(seed, role, count):
    """The words of Philox 4x64-10 (Salmon et al. 2011), written from the paper in Python's integers."""
    mask = 2**64 - 1
    words = []
    for counter in range(1, count // 4 + 2):  # NumPy counts up before the first block
        c = [counter, 0, 0, 0]
        k = [seed, zlib.crc32(role.encode())]
        for _ in range(10):
            low, high = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
            c = [(high >> 64) ^ c[1] ^ k[0], high & mask, (low >> 64) ^ c[3] ^ k[1], low & mask]
            k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
        words += c
    return words[:count]


@pytest.mark.parametrize("seed", [0, 7, 2**32, 2**64 - 1])
def test_bits_are_philox(seed):
    """If this fails, the stream of every seed has changed and no problem line means what it meant."""
    got = [int(w) for w in arrays.bits(seed, "weights/1", 11)]
    assert got == philox_words(seed, "weights/1", 11)


@pytest.mark.parametrize("law", arrays.LAWS)
def test_same_bits_on_every_platform(law):
    """If this fails, a case reported on one machine is another case elsewhere."""
    m = arrays.draw(law, 2026, "weights/1", 5, 4)
    assert tuple(float(v).hex() for v in (m[0, 0], m[2, 1], m[4, 3])) == LITERALS[law]


def test_other_draws_have_the_same_bits_everywhere():
    """If this fails, permutations or one-hot targets of old problem lines have changed."""
    words = philox_words(2026, "p", 8)
    assert list(arrays.permutation(2026, "p", 8)) == sorted(range(8), key=words.__getitem__)
    uniforms = [((w >> 12) + 0.5) / 2**52 for w in philox_words(2026, "t", 6)]
    assert list(arrays.one_hot(2026, "t", 6, 3).argmax(axis=1)) == [int(3 * u) for u in uniforms]


def test_every_law_has_a_literal():
    """If this fails, a law of matrices was added without pinning its bits."""
    assert set(LITERALS) == set(arrays.LAWS)


def test_normal_deviates_are_the_inverse_of_the_normal_distribution():
    """If this fails, weights are not Gaussian, in the middle or in the tails of 2^-53."""
    powers = 2.0 ** -np.arange(1, 54)
    p = np.concatenate([arrays.uniform(1, "p", 20_000), powers, 1 - powers[:-1]])
    expected = np.array([NormalDist().inv_cdf(v) for v in p])
    np.testing.assert_allclose(arrays._inverse_normal(p), expected, rtol=1e-14, atol=1e-17)


def test_normal_deviates_follow_from_the_bits():
    """If this fails, words and deviates have lost their order."""
    u = [((w >> 12) + 0.5) / 2**52 for w in philox_words(5, "input", 12)]
    expected = np.array([NormalDist().inv_cdf(v) for v in u]).reshape(3, 4)
    np.testing.assert_allclose(arrays.normal(5, "input", 3, 4), expected, rtol=1e-14)


def test_logarithm_without_a_library():
    """If this fails, the tails of normal deviates are off."""
    x = np.concatenate(
        [arrays.uniform(2, "x", 5000), 2.0 ** -np.arange(0, 53), [0.7071067811865475, 0.7071067811865477]]
    )
    expected = np.array([math.log(v) for v in x])
    np.testing.assert_allclose(arrays._log(x), expected, rtol=4e-16 * 4, atol=1e-18)


@pytest.mark.parametrize("law", arrays.LAWS)
def test_matrices_are_repeatable_and_independent_of_each_other(law):
    """If this fails, two seeds or two roles share numbers, or one call changes the next."""
    shape = (40, 30)
    first = arrays.draw(law, 11, "weights/1", *shape)
    assert np.array_equal(first, arrays.draw(law, 11, "weights/1", *shape))
    if law == "zero":
        assert not first.any()
        return
    for seed, role in ((12, "weights/1"), (11, "weights/2"), (11, "input"), (11 + 2**32, "weights/1")):
        other = arrays.draw(law, seed, role, *shape)
        similarity = np.sum(first * other) / (np.linalg.norm(first) * np.linalg.norm(other))
        # Independent matrices have similarity about 1/sqrt(r) with r numbers that count (ill-conditioned, low rank).
        assert abs(similarity) < 0.6
        assert not np.any(first == other)


@pytest.mark.parametrize("law", arrays.LAWS)
@pytest.mark.parametrize("width", [3, 400])
def test_matrices_drawn_together_are_those_drawn_alone(law, width):
    """If this fails, the weights of a problem depend on how many layers it has."""
    roles, shapes = ["weights/1", "weights/2", "weights/3"], [(width, 2), (width, width), (1, width)]
    together = arrays.matrices(law, 5, roles, shapes)
    for role, shape, matrix in zip(roles, shapes, together, strict=True):
        assert np.array_equal(matrix, arrays.draw(law, 5, role, *shape))
        assert not matrix.flags.writeable


def test_a_longer_request_begins_with_the_shorter_one():
    """If this fails, a bigger batch or layer of the same seed would hold other samples."""
    for draw in (arrays.bits, arrays.uniform, arrays.normal):
        assert np.array_equal(draw(3, "r", 1000)[:37], draw(3, "r", 37))
    assert np.array_equal(arrays.draw("gaussian", 3, "r", 9, 5)[:4], arrays.draw("gaussian", 3, "r", 4, 5))


@pytest.mark.parametrize(
    ("draw", "mean", "variance", "fourth"),
    [(arrays.normal, 0.0, 1.0, 3.0), (arrays.uniform, 0.5, 1 / 12, 1 / 80)],
)
def test_moments(draw, mean, variance, fourth):
    """If this fails, the deviates have another distribution than the theory's expectations are about."""
    n = 200_000
    x = draw(99, "moments", n) - mean
    assert abs(x.mean()) < 6 * math.sqrt(variance / n)
    assert abs((x**2).mean() - variance) < 6 * math.sqrt((fourth - variance**2) / n)
    assert abs((x**3).mean()) < 6 * math.sqrt(15 / n)  # the sixth moment of the normal, and above the uniform's
    assert abs((x[:-1] * x[1:]).mean()) < 6 * variance / math.sqrt(n)  # no memory from one to the next


def test_uniform_deviates_are_never_at_the_ends(monkeypatch):
    """If this fails, an extreme word gives an infinite normal deviate."""
    monkeypatch.setattr(arrays, "bits", lambda seed, role, count: np.array([0, 2**64 - 1], np.uint64)[:count])
    low, high = arrays.uniform(0, "r", 2)
    assert 0 < low < 2.0**-52
    assert 1 - 2.0**-52 < high < 1
    assert np.all(np.isfinite(arrays.normal(0, "r", 2)))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 33, 100])
def test_rotations_are_orthogonal(size):
    """If this fails, orthogonal chains lose the spectrum that the theory predicts for them."""
    Q = arrays.rotation(3, "r", size)
    assert np.abs(Q @ Q.T - np.eye(size)).max() <= 1e-15 * max(size, 4)
    assert np.linalg.matrix_rank(Q) == size


def test_rotations_mix_all_directions():
    """If this fails, a rotation leaves axes where they were and tests less than it says."""
    Q = arrays.rotation(4, "r", 64)
    assert np.abs(Q).max() < 0.95
    assert np.mean(np.abs(Q) > 1e-12) > 0.9


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 8), (8, 3), (6, 6), (1, 5)])
def test_orthogonal_matrices(rows, columns):
    """If this fails, `orthogonal` weights are neither orthogonal nor of the promised length."""
    m = arrays.draw("orthogonal", 1, "w", rows, columns)
    gram = m @ m.T if rows <= columns else m.T @ m
    np.testing.assert_allclose(gram, max(rows, columns) * np.eye(min(rows, columns)), atol=1e-13)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(12, 20, 3), (20, 12, 3), (16, 16, 4), (3, 3, 1), (1, 9, 1)])
def test_low_rank(rows, columns, rank):
    """If this fails, `low-rank` weights do not make the layers singular that they are drawn for."""
    m = arrays.draw("low-rank", 1, "w", rows, columns)
    assert np.linalg.matrix_rank(m) == rank


@pytest.mark.parametrize("law", ["gaussian", "low-rank", "orthogonal"])
def test_entries_have_variance_one(law):
    """If this fails, the parameterisation's variances hold for no problem."""
    values = np.concatenate([arrays.draw(law, s, "w", 24, 24).ravel() for s in range(40)])
    # Entries of one low-rank matrix are not independent: 40 matrices of rank 6 have at least 240 * 24 free numbers.
    assert abs(np.mean(values**2) - 1) < 6 * math.sqrt(8 / 5760)


def test_ill_conditioned():
    """If this fails, columns are not scaled from 1 down to 2^-20, so that the condition number is not about 1e6."""
    scaled = arrays.draw("ill-conditioned", 1, "w", 50, 11)
    plain = arrays.draw("gaussian", 1, "w", 50, 11)
    np.testing.assert_array_equal(scaled * 2.0 ** (2 * np.arange(11)), plain)
    assert np.linalg.cond(scaled) > 2**19
    assert np.array_equal(arrays.draw("ill-conditioned", 1, "w", 5, 1), arrays.draw("gaussian", 1, "w", 5, 1))


def test_permutations_and_labels_are_uniform():
    """If this fails, hidden units or classes are not treated alike."""
    places = np.array([arrays.permutation(s, "p", 5) for s in range(2000)])
    assert np.all(np.sort(places, axis=1) == np.arange(5))
    for column in places.T:
        assert np.all(np.abs(np.bincount(column, minlength=5) - 400) < 6 * math.sqrt(400 * 0.8))
    hot = arrays.one_hot(1, "t", 3000, 3)
    assert np.all(hot.sum(axis=1) == 1)
    assert set(np.unique(hot)) == {0.0, 1.0}
    assert np.all(np.abs(hot.sum(axis=0) - 1000) < 6 * math.sqrt(3000 * 2 / 9))


def test_an_unknown_law_is_refused():
    """If this fails, a misspelt law of matrices draws something else."""
    with pytest.raises(ProblemError, match=r"law='gausian': needed one of gaussian, orthogonal, low-rank"):
        arrays.draw("gausian", 0, "w", 2, 2)
