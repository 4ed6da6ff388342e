r"""One batch of images for the experiments: CIFAR-10 or Fashion-MNIST from a local path, or a generated stand-in.

Nothing is downloaded.  The Python version of CIFAR-10 is a pickle, which may run any program on loading; it is read by
an unpickler that knows NumPy arrays and nothing else.
"""

from __future__ import annotations

import functools
import gzip
import io
import math
import pickle
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcbench.errors import UsageError
from pcbench.problem import arrays

STAND_IN = "stand-in (generated)"
_CLASSES = 10
_SIDE, _CHANNELS = 16, 3
_SHARE = 0.5


@dataclass(frozen=True)
class Images:
    r"""A batch: `input` `(batch, height * width * channels)`, of mean 0 and variance 1 over the whole set in each
    channel; `target` `(batch, 10)`, one-hot; `name` says where it comes from; `shape` is `(height, width, channels)`.
    """

    input: np.ndarray
    target: np.ndarray
    name: str
    shape: tuple[int, int, int]

    @property
    def pictures(self) -> np.ndarray:
        """The input as `(batch, height, width, channels)`."""
        return self.input.reshape(-1, *self.shape)


@functools.lru_cache(maxsize=4)
def load(path: str | None, *, batch: int, seed: int) -> Images:
    r"""`batch` images drawn by `seed` from the data set at `path`, or generated ones if there is no path.

    `path` is a directory with `data_batch_*.bin` (CIFAR-10, binary version), `data_batch_1` and so on (Python
    version) or `train-images-idx3-ubyte` with `train-labels-idx1-ubyte` (Fashion-MNIST, also with `.gz`), or one such
    file of CIFAR-10.

    **Raises:** `UsageError` if there is no such data, it is damaged, or holds fewer images.
    """
    if path is None:
        return stand_in(batch=batch, seed=seed)
    pixels, labels, name = _read(Path(path))
    if len(pixels) != len(labels) or not len(pixels) or labels.max() >= _CLASSES:
        raise UsageError(f"{path}: {len(pixels)} images and {len(labels)} labels below 10 do not match; fetch it anew")
    if batch > len(pixels):
        raise UsageError(f"batch={batch} of {path}: it holds {len(pixels)} images, ask for no more")
    chosen = arrays.permutation(seed, "images", len(pixels))[:batch]
    mean, std = pixels.mean(axis=(0, 1, 2)), pixels.std(axis=(0, 1, 2))
    input = ((pixels[chosen] - mean) / np.where(std > 0, std, 1)).reshape(batch, -1)
    height, width, channels = pixels.shape[1:]
    return Images(input, np.eye(_CLASSES)[labels[chosen]], name, (height, width, channels))


def stand_in(*, batch: int, seed: int) -> Images:
    r"""Smooth Gaussian random fields of 16 x 16 pixels and 3 channels, half their variance a mean of the class.

    The same bits on every platform.  Smoothness, correlated pixels and classes are what they share with photographs;
    no figure made from them says anything about photographs.
    """
    labels = np.arange(batch) % _CLASSES
    means = _fields(seed, "images/class", _CLASSES)[labels]
    pixels = math.sqrt(_SHARE) * means + math.sqrt(1 - _SHARE) * _fields(seed, "images/sample", batch)
    return Images(pixels.reshape(batch, -1), np.eye(_CLASSES)[labels], STAND_IN, (_SIDE, _SIDE, _CHANNELS))


def _fields(seed: int, role: str, count: int) -> np.ndarray:
    """`(count, side, side, channels)` with unit variance: white noise under repeated binomial smoothing, periodic."""
    field, passes = arrays.normal(seed, role, count, _SIDE, _SIDE, _CHANNELS), _SIDE // 4
    for _ in range(passes):
        for axis in (1, 2):
            field = (np.roll(field, 1, axis) + 2 * field + np.roll(field, -1, axis)) / 4
    # The weights of p passes are binomial(2p, k) / 4^p, whose squares add up to binomial(4p, 2p) / 16^p on each axis.
    return field / (math.comb(4 * passes, 2 * passes) / 16**passes)


# ---- files ------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Pixels `(count, height, width, channels)` of bytes, labels `(count,)`, and the name of the data set."""
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
    else:
        raise UsageError(f"data {str(path)!r}: no such file or directory")
    binary = [p for p in files if re.fullmatch(r"data_batch_\d+\.bin", p.name)]
    pickled = [p for p in files if re.fullmatch(r"data_batch_\d+", p.name)]
    images = [p for p in files if p.name.startswith("train-images-idx3-ubyte")]
    labels = [p for p in files if p.name.startswith("train-labels-idx1-ubyte")]
    if binary or pickled:
        parts = [_binary(p) for p in binary] if binary else [_read_pickle(p) for p in pickled]
        planes = np.concatenate([p[0] for p in parts]).reshape(-1, 3, 32, 32)
        return planes.transpose(0, 2, 3, 1), np.concatenate([p[1] for p in parts]), "CIFAR-10"
    if images and labels:
        name = "Fashion-MNIST" if "fashion" in str(images[0].resolve()).lower() else "MNIST or alike"
        return _idx(images[0], 3)[..., None], _idx(labels[0], 1), name
    raise UsageError(
        f"data {str(path)!r}: needed a directory with data_batch_*.bin (CIFAR-10, binary version), data_batch_1 and "
        "so on (Python version), or train-images-idx3-ubyte and train-labels-idx1-ubyte, also .gz (Fashion-MNIST)"
    )


def _binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label and 3072 bytes, the red, green and blue planes."""
    data = np.fromfile(path, np.uint8)
    if not data.size or data.size % 3073:
        raise UsageError(f"{path}: {data.size} bytes are no whole number of records of 3073; fetch it anew")
    records = data.reshape(-1, 3073)
    return records[:, 1:], records[:, 0].astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Refuses every global but those that a pickled NumPy array of bytes consists of."""

    _ALLOWED = frozenset({
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    })  # fmt: skip

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        # The file names the module of its own NumPy; that of ours has moved.
        return super().find_class(module_name.replace("numpy.core", "numpy._core"), global_name)


def _read_pickle(path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        content = _ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels, labels = np.asarray(content[b"data"]), np.asarray(content[b"labels"], np.int64)
    except Exception as error:  # a damaged pickle raises almost anything
        raise UsageError(
            f"{path} is no batch of CIFAR-10: {type(error).__name__}: {error}; use the binary version, data_batch_*.bin"
        ) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 3072:
        raise UsageError(f"{path}: data {pixels.dtype}{pixels.shape}, needed bytes (count, 3072); fetch it anew")
    return pixels, labels


def _idx(path: Path, axes: int) -> np.ndarray:
    """An array of bytes in the format of MNIST: a magic number, big-endian sizes, the bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *sizes = struct.unpack_from(f">{axes + 1}I", data)
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}; fetch it anew") from None
    body = data[4 * (axes + 1) :]
    if magic != 0x800 + axes or len(body) != math.prod(sizes):
        raise UsageError(
            f"{path}: magic number {magic:#x}, sizes {sizes} and {len(body)} bytes; needed {0x800 + axes:#x} and as "
            "many bytes as the sizes say; fetch it anew"
        )
    return np.frombuffer(body, np.uint8).reshape(sizes)
