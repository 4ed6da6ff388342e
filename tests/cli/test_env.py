"""`pcbench env` and `pcbench adapters`: what is listed, what is removed, and how to make what is not there."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pcbench.adapters import register as adapters
from pcbench.adapters.register import KNOWN, AdapterEntry
from pcbench.environments import catalogue as environments
from pcbench.errors import MissingLibraryError
from tests.environments.making import empty_place, jpc_checkout, jpc_environment, pcbench, remaining_names, repository


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder of environments."""
    return empty_place(tmp_path, monkeypatch)


@pytest.fixture
def source(tmp_path):
    """A folder that looks like a checkout of jpc."""
    return jpc_checkout(tmp_path)


def test_list_tells_what_is_there_and_how_to_make_the_rest(place, tmp_path, source, monkeypatch):
    """If this fails, nobody knows what is installed where, or how to get the rest."""
    monkeypatch.setenv("COLUMNS", "300")
    commit = repository(Path(source))
    record = jpc_environment(tmp_path, source)
    text = pcbench("env", "list").output
    assert re.search(rf"^jpc +jpc 1\.0\.0 at {commit[:10]} +3\.12\.1 +ready +0 MB +jpc/{record.folder}", text, re.M)
    assert text.startswith(f"{place}\n")
    assert re.search(r"^pcx +not made +pcbench env create pcx", text, re.M)
    data = json.loads(pcbench("env", "list", "--json").output)
    assert data["place"] == str(place)
    assert data["environments"]["jpc"]["interpreter"] == str(record.interpreter)
    assert data["environments"]["jpc"]["packages"]["jpc"] == "1.0.0"
    assert data["environments"]["pcx"] == {"state": "not made"}


def test_remove_takes_everything_but_the_checkouts(place, tmp_path, source):
    """If this fails, gigabytes stay behind, or somebody's work goes."""
    jpc_environment(tmp_path, source, add=[source])
    result = pcbench("env", "remove", "jpc", "pcx")
    assert result.exit_code == 0
    assert result.output == "removed jpc\npcx was not made\n"
    assert remaining_names(place) == []
    assert Path(source, "pyproject.toml").exists()
    refused = pcbench("env", "remove", "../..")
    assert refused.exit_code == 2
    assert "is not known" in refused.output


def test_adapters_say_in_which_environment_they_are_or_how_to_make_it(place, monkeypatch):
    """If this fails, `pcbench adapters` speaks of another interpreter than the one that an adapter would run in."""
    monkeypatch.setenv("COLUMNS", "300")
    text = pcbench("adapters").output
    assert re.search(r"^fabricpc +fabricpc +no: pcbench env create fabricpc, or pip install fabricpc==", text, re.M)
    monkeypatch.setattr(environments, "interpreter", {"fabricpc": sys.executable}.get)
    monkeypatch.setitem(KNOWN, "fabricpc", replace(KNOWN["fabricpc"], probe="numpy"))
    text = pcbench("adapters").output
    assert re.search(rf"^fabricpc +numpy +yes {re.escape(np.__version__)}, environment fabricpc", text, re.M)
    assert re.search(r"^fabricpc-mupc +fabricpc +no: environment fabricpc lacks it", text, re.M)
    asked = pcbench("adapters", "--python", sys.executable).output
    assert re.search(rf"^fabricpc +numpy +yes {re.escape(np.__version__)} +FabricPC", asked, re.M)


def test_a_missing_library_names_the_commands_that_help(place, tmp_path, source):
    """If this fails, a user without the library is not told that pcbench can make an environment."""
    error = adapters.missing_library("fabricpc", ImportError("No module named 'fabricpc'"))
    assert isinstance(error, MissingLibraryError)
    for part in ("pcbench env create fabricpc", "pip install fabricpc==", "pcbench check fabricpc --python PATH"):
        assert part in str(error)
    clone = AdapterEntry(
        name="c", spec="m:c", description="d", probe="c", clone="https://example.org/c", environment="jpc"
    )
    text = adapters.installation_advice(clone)
    assert "`git clone https://example.org/c` and `pcbench env create jpc PATH_OR_URL --add PATH` put it into" in text
    assert "PYTHONPATH" in text
    jpc_environment(tmp_path, source)
    assert "`pcbench env add jpc PATH`" in adapters.installation_advice(clone)
    assert "`pip install c`, or `pcbench check c --python PATH`" in adapters.installation_advice(
        replace(clone, environment="", clone="")
    )
