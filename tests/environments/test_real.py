"""A real virtual environment with a package from a folder: its adapter is judged there, and reports say where."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from pcbench.adapters import register as adapters
from pcbench.adapters.register import KNOWN, AdapterEntry
from pcbench.conformance import run as runner
from pcbench.environments import make as environment_making
from pcbench.environments.catalogue import ENVIRONMENTS, Environment
from pcbench.report.evidence import Verdict, Worst
from pcbench.report.report import LawText, Report, RunHeader
from pcbench.worker.client import WorkerClient
from tests.environments.making import pcbench, repository

BACKEND = """
import os, zipfile
META = "Metadata-Version: 2.1\\nName: tiny-pc\\nVersion: 1.5\\n"
WHEEL = "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
def build_wheel(directory, config=None, metadata=None):
    name = "tiny_pc-1.5-py3-none-any.whl"
    files = {"tiny_pc.py": "value = 7\\n", "tiny_pc-1.5.dist-info/METADATA": META,
             "tiny_pc-1.5.dist-info/WHEEL": WHEEL}
    record = "".join(f"{path},,\\n" for path in [*files, "tiny_pc-1.5.dist-info/RECORD"])
    with zipfile.ZipFile(os.path.join(directory, name), "w") as wheel:
        for path, text in {**files, "tiny_pc-1.5.dist-info/RECORD": record}.items():
            wheel.writestr(path, text)
    return name
"""
ADAPTER = """
import tiny_pc
from pcbench.adapters.numpy import NumpyPCN
from dataclasses import replace
def implementation():
    assert tiny_pc.value == 7
    found = NumpyPCN()
    found.manifest = replace(found.manifest, name="tiny", library="tiny-pc", version="1.5")
    return found
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A real virtual environment with a package installed from a git repository, and with this NumPy on its path."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "tiny").mkdir()
    (folder / "tiny" / "pyproject.toml").write_text(
        '[project]\nname = "tiny-pc"\nversion = "1.5"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "tiny" / "backend.py").write_text(BACKEND)
    commit = repository(folder / "tiny")
    (folder / "adapter.py").write_text(ADAPTER)
    environment = Environment(
        name="tiny", library="tiny-pc", module="tiny_pc", requirements=("tiny-pc",), source="a folder", why="none"
    )
    entry = AdapterEntry(
        name="tiny", spec=str(folder / "adapter.py"), description="d", probe="tiny_pc", environment="tiny"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCBENCH_ENVIRONMENTS", str(folder / "environments"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setitem(ENVIRONMENTS, "tiny", environment)
        patch.setitem(KNOWN, "tiny", entry)
        record = environment_making.make_environment(
            environment, source=f"git+file://{folder / 'tiny'}", python=sys.executable,
            add=[str(Path(np.__file__).parents[1])],
        )  # fmt: skip
        yield record, commit, entry


@pytest.fixture
def real_place(real, monkeypatch):
    """`real`, for one test: another fixture hides environments from every test."""
    record, _, _ = real
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(Path(record.log).parents[1]))
    return real


def test_a_real_environment_serves_its_adapter(real_place, tmp_path):
    """If this fails, what was made cannot be used, or a report does not say where the library came from."""
    record, commit, _ = real_place
    assert (record.version, record.commit) == ("1.5", commit)
    spec, interpreter = adapters.locate("tiny")
    assert interpreter == str(record.interpreter)
    with WorkerClient(spec, interpreter) as client:
        assert client.info["environment"] == "tiny"
        assert client.info["commit"] == commit
        assert Path(client.info["executable"]) == record.interpreter
    report = runner.check(
        "tiny", profile="smoke", seed=1, laws=["contract.deterministic"], journal_dir=tmp_path, workers=1
    )
    header = report.header
    assert (header.environment, header.commit, header.interpreter) == ("tiny", commit, interpreter)
    assert header.subject == f"tiny (tiny-pc 1.5 at {commit[:10]})"
    assert header.versions["numpy"] == np.__version__


def test_commands_and_reports_name_the_real_environment(real_place, tmp_path, monkeypatch):
    """If this fails, the terminal and the JSON report do not say which interpreter was used."""
    record, commit, _ = real_place
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    command = (
        "check",
        "tiny",
        "--profile",
        "smoke",
        "--seed",
        "1",
        "--workers",
        "1",
        "--laws",
        "contract.deterministic",
    )
    result = pcbench(*command, "--json", "r.json")
    assert result.exit_code == 0, result.output
    assert re.search(rf"^interpreter +{record.interpreter}, environment tiny$", result.output, re.M)
    assert f"tiny-pc 1.5 at {commit[:10]}" in result.output
    header = json.loads(Path("r.json").read_text())["header"]
    assert (header["environment"], header["commit"]) == ("tiny", commit)
    shown = pcbench("replay", "contract.shapes-and-dtypes", "D=2,N=3,L=3,K=2,B=2", "--impl", "tiny")
    assert shown.exit_code == 0, shown.output
    assert str(record.interpreter) in shown.output


def test_a_failure_is_replayed_in_the_environment_without_naming_its_folder():
    """If this fails, the command that a report gives is of no use once the environment was made anew elsewhere, or it
    leaves out the interpreter where nothing would find it."""
    verdict = Verdict(law="a", outcome="fail", failure=Worst(problem="D=1"))

    def command(**header):
        values = {"pcbench": "1", "law_set": "0", "spec": "m:a", "interpreter": "/e/venv-1/bin/python", **header}
        return Report(header=RunHeader(**values), laws=(LawText(id="a", statement="s"),), verdicts=(verdict,)).replay(
            verdict
        )

    assert command(implementation="jpc-sp", environment="jpc").endswith("--impl jpc-sp")
    for given in ({"environment": ""}, {"environment": "pcx"}, {"implementation": "mine.py", "environment": "jpc"}):
        assert command(**{"implementation": "jpc-sp", **given}).endswith("--python /e/venv-1/bin/python")
