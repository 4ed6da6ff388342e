"""Readers of images against files written here byte by byte, and the moments of the stand-in."""

import gzip
import pickle
import struct

import numpy as np
import pytest

from pcbench.errors import UsageError
from pcbench.experiments.scaling import images


@pytest.fixture(autouse=True)
def _forget():
    images.load.cache_clear()


def planes():
    """Three pictures whose pixel at row 1, column 2 has the channels 10 b, 10 b + 1, 10 b + 2 of 200 elsewhere."""
    data = np.full((3, 3, 32, 32), 200, np.uint8)
    for sample in range(3):
        data[sample, :, 1, 2] = [10 * sample, 10 * sample + 1, 10 * sample + 2]
    return data.reshape(3, 3072), np.array([7, 0, 9], np.uint8)


def check_cifar(loaded):
    """Every picture has its label, its pixel in place, and channels of mean 0 and variance 1."""
    pixels, labels = planes()
    colours = pixels.reshape(3, 3, 1024).astype(float)
    for picture, target in zip(loaded.pictures, loaded.target, strict=True):
        sample = list(labels).index(int(np.argmax(target)))
        for c in range(3):
            mean, std = colours[:, c].mean(), colours[:, c].std()
            np.testing.assert_allclose(picture[1, 2, c], (10 * sample + c - mean) / std, rtol=1e-12)
            np.testing.assert_allclose(picture[2, 1, c], (200 - mean) / std, rtol=1e-12)
    np.testing.assert_allclose(loaded.pictures.mean(axis=(0, 1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(loaded.pictures.var(axis=(0, 1, 2)), 1, rtol=1e-12)
    assert loaded.name == "CIFAR-10"
    assert loaded.shape == (32, 32, 3)


def test_cifar_binary(tmp_path):
    """If this fails, labels or colour planes of CIFAR-10 are read from the wrong bytes."""
    pixels, labels = planes()
    records = np.concatenate([labels[:, None], pixels], axis=1)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "data_batch_1.bin").write_bytes(records[:2].tobytes())
    (folder / "data_batch_2.bin").write_bytes(records[2:].tobytes())
    (folder / "test_batch.bin").write_bytes(b"not read")
    check_cifar(images.load(str(tmp_path), batch=3, seed=1))


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_cifar_pickle_of_any_numpy(tmp_path, module):
    """If this fails, the Python version of CIFAR-10, written by NumPy 1 under Python 2, cannot be read."""
    pixels, labels = planes()
    text = pickle.dumps({b"data": pixels, b"labels": labels.tolist(), b"filenames": [b"a"]}, protocol=2)
    here = np.ndarray.__reduce__(pixels)[0].__module__
    (tmp_path / "data_batch_1").write_bytes(text.replace(b"c" + here.encode() + b"\n", b"c" + module.encode() + b"\n"))
    check_cifar(images.load(str(tmp_path / "data_batch_1"), batch=3, seed=1))


class Attack:
    def __reduce__(self):
        return print, ("run by the pickle",)


def test_pickles_run_nothing(tmp_path, capsys):
    """If this fails, a file called data_batch_1 runs any program on the reader's machine."""
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Attack(), b"labels": []}))
    with pytest.raises(UsageError, match=r"it asks for builtins\.print; use the binary version"):
        images.load(str(tmp_path), batch=1, seed=0)
    assert capsys.readouterr().out == ""


def write_idx(folder, *, compressed, pixels, labels):
    folder.mkdir()
    for name, array in (("train-images-idx3-ubyte", pixels), ("train-labels-idx1-ubyte", labels)):
        data = struct.pack(f">{array.ndim + 1}I", 0x800 + array.ndim, *array.shape) + array.tobytes()
        path = folder / (name + (".gz" if compressed else ""))
        path.write_bytes(gzip.compress(data) if compressed else data)


@pytest.mark.parametrize("compressed", [False, True])
def test_fashion_mnist(tmp_path, compressed):
    """If this fails, images of the idx format are read transposed, shifted or with foreign labels."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = (np.arange(12) % 10).astype(np.uint8)
    write_idx(tmp_path / "fashion", compressed=compressed, pixels=pixels, labels=labels)
    loaded = images.load(str(tmp_path / "fashion"), batch=12, seed=5)
    assert loaded.name == "Fashion-MNIST"
    expected = (pixels - pixels.mean()) / pixels.std()
    order = [int(np.argmin(np.abs(expected - p[..., 0]).sum(axis=(1, 2)))) for p in loaded.pictures]
    assert sorted(order) == list(range(12))
    np.testing.assert_allclose(loaded.pictures[..., 0], expected[order], rtol=1e-12)
    assert np.argmax(loaded.target, axis=1).tolist() == labels[order].tolist()
    assert order != list(range(12))  # drawn by the seed, not the first ones


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_1.bin", b"x" * 3072, "no whole number of records"),
        ("data_batch_1.bin", b"", "no whole number of records"),
        ("data_batch_1", b"x", "is no batch of CIFAR-10"),
        ("data_batch_1", pickle.dumps({b"data": [[1]], b"labels": [1]}), "needed bytes"),
        ("data_batch_1.bin", b"\x0a" + b"x" * 3072, "do not match"),
        ("other", b"x", "needed a directory with"),
    ],
)
def test_damaged_data_are_refused(tmp_path, name, content, message):
    """If this fails, a broken download becomes an experiment on noise."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        images.load(str(tmp_path), batch=1, seed=0)


def test_damaged_idx_files_are_refused(tmp_path):
    """If this fails, a truncated idx file is reshaped into other images."""
    pixels, labels = np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8)
    write_idx(tmp_path / "a", compressed=False, pixels=pixels, labels=labels)
    with pytest.raises(UsageError, match="3 images and 2 labels"):
        images.load(str(tmp_path / "a"), batch=1, seed=0)
    (tmp_path / "a" / "train-images-idx3-ubyte").write_bytes(b"\0\0\10\3\0\0\0\1\0\0\0\1\0\0\0\5x")
    with pytest.raises(UsageError, match="as many bytes as the sizes say"):
        images.load(str(tmp_path / "a"), batch=1, seed=0)
    (tmp_path / "a" / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b no gzip")
    (tmp_path / "a" / "train-images-idx3-ubyte").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        images.load(str(tmp_path / "a"), batch=1, seed=0)


def test_no_more_images_than_there_are(tmp_path):
    """If this fails, a batch is silently smaller than was asked for."""
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(3073))
    with pytest.raises(UsageError, match="holds 1 images"):
        images.load(str(tmp_path), batch=2, seed=0)
    with pytest.raises(UsageError, match="no such file or directory"):
        images.load(str(tmp_path / "absent"), batch=1, seed=0)


def test_stand_in_is_what_it_says():
    """If this fails, the generated images are not the fields that every figure made of them claims."""
    loaded = images.load(None, batch=2000, seed=3)
    assert "stand-in" in loaded.name
    fields, labels = loaded.pictures, np.argmax(loaded.target, axis=1)
    assert np.bincount(labels).tolist() == [200] * 10
    within = np.mean([fields[labels == k].var(axis=0).mean() for k in range(10)])
    # Half the variance is within a class: 200 * 0.5 of 199, whose mean over correlated pixels varies by some percent.
    assert abs(within - 0.5) < 0.03
    noise = fields - np.stack([fields[labels == k].mean(axis=0) for k in range(10)])[labels]
    # Four passes of (1, 2, 1)/4 twice over: neighbours correlate by binomial(16, 9) / binomial(16, 8) = 8/9.
    neighbours = np.mean(noise * np.roll(noise, 1, axis=1)) / np.mean(noise**2)
    assert abs(neighbours - 8 / 9) < 0.01
    channels = np.mean(noise[..., 0] * noise[..., 1]) / np.mean(noise**2)
    assert abs(channels) < 0.02


def test_stand_in_depends_on_the_seed_alone():
    """If this fails, two workers of a sweep see different data."""
    a = images.load(None, batch=20, seed=3)
    images.load.cache_clear()
    b = images.load(None, batch=30, seed=3)
    np.testing.assert_array_equal(a.input, b.input[:20])
    assert not np.array_equal(a.input, images.load(None, batch=20, seed=4).input)
