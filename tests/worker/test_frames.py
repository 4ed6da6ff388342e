"""Frames carry values unchanged, to the bit, and refuse bytes that are no frame."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pcbench import Equilibrium, Inference, Manifest, Network
from pcbench.worker.frames import MAGIC, Channel, EndOfFrames, FrameError, encode

DTYPES = ["<f8", "<f4", "<f2", ">f8", "<i8", "<u1", "|b1", "<c16"]


def round_trip(value, **options):
    """The value after a frame in a real pipe; a thread would be needed beyond the pipe's 64 KiB."""
    read, write = os.pipe()
    try:
        Channel(read, write).send(encode(value, **options))
        return Channel(read, write).receive()
    finally:
        os.close(read)
        os.close(write)


def receive(data: bytes):
    """What a channel makes of these bytes followed by the end of the stream."""
    read, write = os.pipe()
    try:
        os.write(write, data)
        os.close(write)
        return Channel(read, -1).receive()
    finally:
        os.close(read)


def same(a, b) -> bool:
    """Same types, same bits, same memory order."""
    if isinstance(a, np.ndarray):
        order = a.flags.c_contiguous == b.flags.c_contiguous
        return (
            type(b) is np.ndarray and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() and order
        )
    if isinstance(a, np.generic):
        return type(a) is type(b) and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, float):
        return type(b) is float and struct.pack("<d", a) == struct.pack("<d", b)
    return type(a) is type(b) and a == b


def arrays() -> st.SearchStrategy:
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return st.sampled_from(DTYPES).flatmap(lambda d: hnp.arrays(np.dtype(d), shapes))


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just(math.nan) | st.text(max_size=5)
)
values = st.recursive(
    scalars | arrays(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["t", "v"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(values)
def test_a_value_comes_back_to_the_bit(value):
    """If this fails, an answer is judged that the implementation did not give."""
    assert same(value, round_trip(value))


@pytest.mark.parametrize("dtype", DTYPES)
def test_views_are_sent_as_what_they_show(dtype):
    """If this fails, strided, reversed, transposed or broadcast arrays arrive scrambled or with their base."""
    base = np.arange(24).reshape(4, 6).astype(dtype)
    views = [base[::2, ::3], base[::-1], base.T, base[1:2].T, np.broadcast_to(base[0], (3, 6)), base[:0], base[0, 0]]
    for view, back in zip(views, round_trip(views), strict=True):
        assert back.dtype == view.dtype
        np.testing.assert_array_equal(back, view)


def test_fortran_order_survives():
    """If this fails, a BLAS in the worker sums in another order than in the harness and last bits differ."""
    assert round_trip(np.asfortranarray(np.ones((3, 2)))).flags.f_contiguous


def test_received_arrays_are_writable_and_apart():
    """If this fails, an implementation that works in place meets an error of ours, or spoils a neighbouring array."""
    first, second = round_trip([np.zeros(3), np.zeros(3)])
    first += 1
    assert first.tolist() == [1, 1, 1]
    assert second.tolist() == [0, 0, 0]


def network() -> Network:
    weights = (np.arange(6.0).reshape(2, 3), np.ones((1, 2)))
    return Network(weights=weights, scalings=(0.5, 0.1), skips=(0.0, 0.0), activation="tanh", precision=2.0)


def test_records_come_back_field_by_field():
    """If this fails, a field of a network, an answer or a manifest is lost on the way to or from the worker."""
    net = round_trip(network())
    assert (net.scalings, net.skips, net.activation, net.precision) == ((0.5, 0.1), (0.0, 0.0), "tanh", 2.0)
    assert all(map(same, net.weights, network().weights))
    inference = round_trip(Inference(activities=[np.ones(2)], energy=0.25, weight_gradients=(np.ones(1),)))
    assert inference.energy == 0.25
    assert same(inference.weight_gradients, (np.ones(1),))
    equilibrium = round_trip(Equilibrium(activities=[], outcome="max-steps", residual=0.5, evaluations=3))
    assert (equilibrium.outcome, equilibrium.residual, equilibrium.evaluations) == ("max-steps", 0.5, 3)
    manifest = Manifest(name="m", versions={"t": "1"}, notes=("a", "b"))
    assert round_trip(manifest) == manifest


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, np.array([None]), np.array(["a"]), 1j, b"bytes"])
def test_what_no_frame_carries_is_refused(value):
    """If this fails, something is sent that would come back as something else, or by unpickling."""
    with pytest.raises(FrameError, match=r"cannot be sent"):
        encode([value])


def frame(header: object, body: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<4sIQ", MAGIC, len(text), len(body) if length is None else length) + text + body


ARRAY = {"t": "array", "d": "<f8", "s": [2], "o": "C"}
GARBAGE = {
    "text": (b"Segmentation fault", r"bytes that are no frame: b'Segmentation fault'"),
    "short text": (b"x", r"bytes that are no frame: b'x'"),
    "cut in the prelude": (MAGIC + b"\0", r"ends after 5 bytes"),
    "cut in the header": (frame([1, 2, 3])[:-1], r"ends after 24 bytes"),
    "cut in the body": (frame(ARRAY, bytes(16))[:-3], r"ends after 13 of 16 bytes of arrays"),
    "absurd header": (struct.pack("<4sIQ", MAGIC, 2**32 - 1, 0), r"announces a header of 4294967295"),
    "absurd body": (struct.pack("<4sIQ", MAGIC, 2, 2**63) + b"[]", r"body of 9223372036854775808 bytes"),
    "body that no array needs": (frame([], length=2**40), r"announces 1099511627776 bytes .* describes 0"),
    "not JSON": (struct.pack("<4sIQ", MAGIC, 3, 0) + b"[1,", r"header that is not understood"),
    "objects": (frame({**ARRAY, "d": "|O"}, bytes(16)), r"impossible array"),
    "negative shape": (frame({**ARRAY, "s": [-2]}, bytes(16)), r"impossible array"),
    "dtype that does not exist": (frame({**ARRAY, "d": "nonsense"}, bytes(16)), r"not understood"),
    "unknown tag": (frame({"t": "pickle", "v": {}}), r"not understood"),
    "no tag": (frame({"v": {}}), r"not understood"),
    "unknown field": (frame({"t": "inference", "v": {"activity": []}}), r"value is not understood"),
    "impossible network": (
        frame({"t": "network", "v": {"weights": [], "scalings": [], "skips": []}}),
        r"not understood",
    ),
    "unknown reference": (frame({"t": "reference", "v": 7}), r"value is not understood"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_named_not_believed(name):
    """If this fails, noise on the pipe becomes an answer, a huge allocation or an unexplained exception."""
    data, message = GARBAGE[name]
    with pytest.raises(FrameError, match=message):
        receive(data)


def test_the_end_of_the_stream_is_told_from_a_cut_frame():
    """If this fails, a worker that is told to stop dies with an error, or a crash in mid-answer looks like an end."""
    with pytest.raises(EndOfFrames):
        receive(b"")
    with pytest.raises(FrameError) as cut:
        receive(frame([1])[:-1])
    assert not isinstance(cut.value, EndOfFrames)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_frames_that_arrive_together_are_taken_apart(pipe):
    """If this fails, a network sent ahead of a call swallows the beginning of the call."""
    channel = Channel(*pipe)
    channel.send(encode(np.arange(3.0)), encode("second"), encode([np.ones((2, 2), "f4")]))
    assert channel.receive().tolist() == [0, 1, 2]
    assert channel.surplus
    assert channel.receive() == "second"
    assert same(channel.receive(), [np.ones((2, 2), "f4")])
    assert not channel.surplus


def test_a_network_is_sent_by_reference_once_it_is_known(pipe):
    """If this fails, every call of a law sends all the weights again, or the wrong network is used."""
    known, channel = network(), Channel(*pipe)
    buffers = encode((known, 1), {id(known): 5})
    assert sum(map(len, buffers)) < 100
    channel.send(buffers)
    back, one = channel.receive({4: network(), 5: known})
    assert back is known
    assert one == 1
