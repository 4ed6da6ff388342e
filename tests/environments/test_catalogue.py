"""Environments: what the table asks for, where they are, how commands find them, and records that are damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from pcbench.adapters import register as adapters
from pcbench.adapters.register import KNOWN
from pcbench.environments import catalogue as environments
from pcbench.environments.catalogue import ENVIRONMENTS, Record
from pcbench.errors import UsageError
from pcbench.worker.provenance import RECORD
from tests.environments.making import jpc_environment, pcbench

# ---- the table ------------------------------------------------------------------------------------------------------


def test_environments_of_adapters_are_in_the_table():
    """If this fails, an adapter names an environment that cannot be made, or promises another version than is made."""
    for name, entry in KNOWN.items():
        if entry.environment:
            environment = ENVIRONMENTS[entry.environment]
            assert entry.install in (*environment.requirements, environment.source), name
    for name, environment in ENVIRONMENTS.items():
        assert environment.name == name
        assert environment.requirements[0].partition("==")[0] == environment.library
        assert environment.why


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 10), False), ((3, 11), True), ((3, 13), True), ((3, 14), False), ((4, 0), False)]
)
def test_a_python_fits_from_the_oldest_to_before_the_first_that_does_not(version, fits):
    """If this fails, pip is started on a Python for which it cannot succeed, or a good one is refused."""
    environment = replace(ENVIRONMENTS["pcx"], python=(3, 11), below=(3, 14))
    assert environment.fits(version) == fits


def test_an_unknown_environment_lists_the_known_ones():
    """If this fails, a misspelt name gives no way forward."""
    result = pcbench("env", "create", "ngc-learn")
    assert result.exit_code == 2
    assert "did you mean 'ngclearn'" in result.output
    assert all(name in result.output for name in ENVIRONMENTS)


# ---- where they are -------------------------------------------------------------------------------------------------


def test_place_is_what_is_asked_for_else_the_folder_of_data(monkeypatch, tmp_path):
    """If this fails, environments are made where nobody finds them again."""
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(tmp_path / "here"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert environments.environments_folder() == tmp_path / "here"
    monkeypatch.delenv("PCBENCH_ENVIRONMENTS")
    assert environments.environments_folder() == tmp_path / "data" / "pcbench" / "environments"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert environments.environments_folder().is_relative_to(tmp_path / "home")
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", "relative")
    with pytest.raises(UsageError, match="absolute"):
        environments.environments_folder()


def test_the_variable_is_known_to_the_command_line(monkeypatch, tmp_path):
    """If this fails, `pcbench` refuses to run where PCBENCH_ENVIRONMENTS is set."""
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(tmp_path))
    assert pcbench("env", "list").exit_code == 0


# ---- finding --------------------------------------------------------------------------------------------------------


def test_an_asked_interpreter_comes_before_the_environment_before_pcbench_s_own(place, tmp_path, source):
    """If this fails, it depends on the command which library is judged."""
    assert adapters.locate("fabricpc") == (KNOWN["fabricpc"].spec, None)
    record = jpc_environment(tmp_path, source)
    shutil.move(place / "jpc", place / "fabricpc")
    data = {**record.to_json(), "name": "fabricpc"}
    (place / "fabricpc" / RECORD).write_text(json.dumps(data))
    there = str(place / "fabricpc" / record.folder / "bin" / "python")
    for name in ("fabricpc", "fabricpc-mupc"):
        assert adapters.locate(name) == (KNOWN[name].spec, there)
        assert adapters.locate(KNOWN[name].spec) == (KNOWN[name].spec, there)
        assert adapters.locate(name, "/other/python") == (KNOWN[name].spec, "/other/python")
    assert adapters.locate_pair("fabricpc") == ("fabricpc", KNOWN["fabricpc"].spec, there)
    assert adapters.locate_pair("fabricpc=py") == ("fabricpc", KNOWN["fabricpc"].spec, "py")
    assert adapters.locate("numpy") == (KNOWN["numpy"].spec, None)
    assert adapters.locate("my/adapter.py") == ("my/adapter.py", None)


@pytest.mark.parametrize("what", ["interpreter", "folder"])
def test_a_broken_environment_is_an_error_and_not_another_library(what, place, tmp_path, source):
    """If this fails, the library that happens to be in pcbench's own interpreter is judged without a word."""
    record = jpc_environment(tmp_path, source)
    if what == "folder":
        shutil.rmtree(record.directory)
    else:
        record.interpreter.unlink()
        record.interpreter.symlink_to(tmp_path / "gone")
    with pytest.raises(UsageError, match=r"'jpc' is broken: .* is gone.*env create jpc PATH_OR_URL --replace"):
        environments.interpreter("jpc")
    listed = pcbench("env", "list", "--json")
    assert json.loads(listed.output)["environments"]["jpc"]["state"].startswith("broken: its ")
    assert jpc_environment(tmp_path, source, replace_old=True).interpreter.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "jpc", "folder": "../..", "library": "a", "version": "1"}'])
def test_a_damaged_record_is_said_to_be_damaged(text, place):
    """If this fails, a record cut short by a full disk ends every command in a traceback, or leads anywhere."""
    (place / "jpc").mkdir(parents=True)
    (place / "jpc" / RECORD).write_text(text)
    with pytest.raises(UsageError, match=r"cannot be read.*--replace"):
        environments.read("jpc")
    assert "broken" in pcbench("env", "list").output
    assert pcbench("adapters").exit_code == 0
    assert pcbench("env", "remove", "jpc").exit_code == 0
    assert environments.read("jpc") is None


@pytest.mark.parametrize(
    "command",
    [
        ("check", "stray", "--profile", "smoke", "--workers", "1"),
        ("replay", "contract.shapes-and-dtypes", "D=2,N=3,L=3,K=2,B=2", "--impl", "stray"),
        ("matrix", "stray", "--profile", "smoke", "--quiet"),
        ("bench", "stray", "--quick", "--quiet"),
        ("speed", "--peer", "stray", "--quiet", "--no-equilibria"),
        ("gate", "HEAD", "--implementation", "stray"),
    ],
)
def test_every_command_looks_for_the_environment(command, place, monkeypatch, tmp_path):
    """A broken environment must stop each command that starts an implementation; one that does not look goes on."""
    entry = replace(KNOWN["numpy"], name="stray", spec="pcbench.adapters.numpy:stray", environment="jpc")
    monkeypatch.setitem(KNOWN, "stray", entry)
    monkeypatch.chdir(tmp_path)
    (place / "jpc").mkdir(parents=True)
    record = Record(name="jpc", folder="venv-1", library="jpc", version="1.0.0")
    (place / "jpc" / RECORD).write_text(json.dumps(record.to_json()))
    result = pcbench(*command)
    assert result.exit_code == 2, result.output
    assert "environment 'jpc' is broken" in result.output


def test_asv_benchmarks_look_for_the_environment(place, monkeypatch):
    """If this fails, the history of a library is measured in another interpreter than it is judged in."""
    from pcbench.benchmarks.settings import read_settings

    monkeypatch.setattr(environments, "interpreter", {"fabricpc": "/made/python"}.get)
    assert read_settings({"PCBENCH_IMPL": "fabricpc"}).python == "/made/python"
    assert read_settings({"PCBENCH_IMPL": "fabricpc", "PCBENCH_PYTHON": "/other"}).python == "/other"
    assert read_settings({}).python is None
