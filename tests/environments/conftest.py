"""The folders that the tests of environments start from."""

from __future__ import annotations

import pytest

from tests.environments.making import empty_place, jpc_checkout


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder of environments."""
    return empty_place(tmp_path, monkeypatch)


@pytest.fixture
def source(tmp_path):
    """A folder that looks like a checkout of jpc."""
    return jpc_checkout(tmp_path)
