"""The step that judges every library of the index: what it makes of verdicts, and of libraries it cannot have."""

import importlib.util
import json
from pathlib import Path

import pytest

from pcbench.environments.catalogue import ENVIRONMENTS

ROOT = Path(__file__).resolve().parents[2]
OLD = {"a": {"library": "l", "version": "1", "verdicts": {"x.one": "pass", "x.two": "expected-failure"}}}


def load_program():
    """`ci/libraries.py`."""
    spec = importlib.util.spec_from_file_location("libraries", ROOT / "ci" / "libraries.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The program with a committed file of its own."""
    module = load_program()
    monkeypatch.setattr(module, "COMMITTED", tmp_path / "libraries.json")
    return module


def judging(program, monkeypatch, verdicts, version="1"):
    """Lets one adapter have these verdicts, and no environment be made."""
    monkeypatch.setattr(program, "make", lambda name: "" if name == "torch" else "no index")
    monkeypatch.setattr(program, "adapters_of", lambda name: ["a"])
    found = {"library": "l", "version": version, "verdicts": verdicts}
    monkeypatch.setattr(program, "judge", lambda adapter, workers: found)


@pytest.mark.parametrize(
    ("verdicts", "version", "code", "said"),
    [
        ({"x.one": "pass", "x.two": "expected-failure"}, "1", 0, "every verdict of 1 adapters is as committed"),
        ({"x.one": "fail", "x.two": "expected-failure"}, "1", 1, "a: x.one: pass -> fail"),
        ({"x.one": "pass"}, "1", 1, "a: x.two: expected-failure -> not-applicable"),
        ({"x.one": "pass", "x.two": "expected-failure"}, "2", 0, "a: l 1 -> 2"),
        ({}, "1", 1, "nothing was judged"),
    ],
)
def test_a_verdict_that_differs_fails_and_a_version_is_news(
    program, monkeypatch, capsys, verdicts, version, code, said
):
    """If this fails, a library that broke goes unseen, or a step that judged nothing is green."""
    program.COMMITTED.write_text(json.dumps(OLD))
    judging(program, monkeypatch, verdicts, version)
    assert program.main([]) == code
    captured = capsys.readouterr()
    assert said in captured.out + captured.err
    assert "fabricpc: cannot be had here: no index" in captured.out


def test_an_adapter_that_is_not_committed_fails_until_it_is_written(program, monkeypatch, capsys):
    """If this fails, a new adapter is never compared with anything."""
    judging(program, monkeypatch, {"x.one": "pass"})
    assert program.main([]) == 1
    assert program.main(["--write"]) == 0
    assert json.loads(program.COMMITTED.read_text())["a"]["verdicts"] == {"x.one": "pass"}
    assert program.main([]) == 0
    capsys.readouterr()


def test_every_library_of_the_index_has_committed_verdicts():
    """If this fails, an adapter of a library that anybody can install is judged by nobody."""
    committed = json.loads((ROOT / "ci" / "reports" / "libraries.json").read_text(encoding="utf-8"))
    module = load_program()
    served = [name for name, environment in ENVIRONMENTS.items() if not environment.source]
    assert set(committed) == {adapter for name in served for adapter in module.adapters_of(name)}
    assert all(found["verdicts"] for found in committed.values())
