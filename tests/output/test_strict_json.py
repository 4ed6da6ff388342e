"""Data of any kind as strict JSON."""

import json
import math
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from pcbench.output.strict_json import dumps, plain_data


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, None), (True, True), (3, 3), (0.1, 0.1), ("x", "x"),
        (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"),
        (np.float32(0.5), 0.5), (np.float64("nan"), "nan"), (np.int64(3), 3), (np.bool_(True), True),
        (np.array(2.0), 2.0), (np.array([[1.0, math.inf]]), [[1.0, "inf"]]),
        ((1, (2.5, "a")), [1, [2.5, "a"]]), ({3}, [3]), (frozenset({"a"}), ["a"]),
        ({1: {"a": math.nan}}, {"1": {"a": "nan"}}), (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (Path("a/b"), "a/b"), (1j, "1j"),
    ],
)  # fmt: skip
def test_every_value_has_its_data(value, data):
    """Breaks if a report has NaN, which is no JSON, or cannot be written for the sake of one value."""
    found = plain_data(value)
    assert found == data
    assert type(found) is type(data)
    assert json.loads(dumps(value)) == data
    assert plain_data(found) == found


def test_files_end_with_a_line():
    """Breaks if reports cannot be concatenated, compared by lines, or read by people."""
    assert dumps({"a": [1]}) == '{\n "a": [\n  1\n ]\n}\n'
