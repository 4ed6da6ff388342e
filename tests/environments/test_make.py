"""Environments are made whole or not at all: what pip is given, what is recorded, and checkouts on the path."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pcbench.environments import catalogue as environments
from pcbench.environments import make as environment_making
from pcbench.environments.catalogue import ENVIRONMENTS
from pcbench.errors import InstallationError, UsageError
from pcbench.worker.provenance import RECORD
from tests.environments.making import LOGS, failing_pip, jpc_environment, pcbench, python, remaining_names, repository

# ---- what pip is given ----------------------------------------------------------------------------------------------


def test_a_source_takes_the_place_of_the_library(tmp_path, source, monkeypatch):
    """If this fails, pip installs something else than what was asked for."""
    jpc, pcx = ENVIRONMENTS["jpc"], ENVIRONMENTS["pcx"]
    asked = environment_making.requirements_of
    assert asked(pcx, None) == pcx.requirements
    assert asked(jpc, source) == (source,)
    monkeypatch.chdir(Path(source).parent)
    assert asked(jpc, Path(source).name) == (source,)  # pip is not started in this directory
    wheel = tmp_path / "jpc-1.0.0-py3-none-any.whl"
    wheel.touch()
    assert asked(jpc, str(wheel)) == (str(wheel),)
    for text in ("git+https://example.org/jpc@abc", "git+ssh://git@example.org/jpc", "https://example.org/jpc.zip"):
        assert asked(jpc, text) == (text,)
    for text in ("pcx==0.6.2", "PCX>=0.5,<0.6"):
        assert asked(pcx, text) == (text,)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("jpc", None, "pcbench env create jpc PATH_OR_URL"),
        ("pcx", "torch==2.0", "no requirement of pcx"),
        ("pcx", "./nowhere", "no directory or file here"),
        ("jpc", ".", "neither pyproject.toml nor setup.py"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(name, given, said, tmp_path, monkeypatch):
    """If this fails, pip fails minutes later with a message about something else."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(said)):
        environment_making.requirements_of(ENVIRONMENTS[name], given)


# ---- making ---------------------------------------------------------------------------------------------------------


def test_what_is_made_is_recorded_and_found(place, tmp_path, source):
    """If this fails, an environment is made and never used, or a report cannot say what was in it."""
    commit = repository(Path(source))
    told: list[str] = []
    record = jpc_environment(tmp_path, source, tell=told.append)
    assert environments.read("jpc") == record
    assert environments.interpreter("jpc") == str(record.interpreter)
    assert record.interpreter.is_relative_to(place)
    assert (record.library, record.version, record.python, record.commit) == ("jpc", "1.0.0", "3.12.1", commit)
    assert (record.source, record.requirements) == (source, (source,))
    assert record.packages == {"jpc": "1.0.0", "numpy": "2.0"}
    assert record.base == str(tmp_path / "python")
    assert record.bytes >= len(Path(record.base).read_bytes())
    given = Path(record.log).read_text()
    assert f"'install', '--no-input', '--progress-bar', 'off', '{source}'" in given
    assert "3.12.1" in told[0]
    assert source in told[1]
    assert remaining_names(place) == ["jpc"]


def test_the_commit_that_pip_recorded_is_believed(place, tmp_path):
    """If this fails, an installation from a URL has no commit, and its version number may stand for many."""
    record = jpc_environment(
        tmp_path, "git+https://user:secret@example.org/jpc@main", url='{"vcs_info": {"commit_id": "c0ffee"}}'
    )
    assert record.commit == "c0ffee"
    assert record.description == "jpc 1.0.0 at c0ffee"
    assert "secret" not in json.dumps(record.to_json())
    assert "secret" not in Path(record.log).read_text().partition("pip was given")[0]


def test_a_failed_installation_leaves_nothing_but_the_log(place, tmp_path, source):
    """If this fails, half an environment is taken for a whole one, or nobody learns why there is none."""
    with pytest.raises(InstallationError) as caught:
        jpc_environment(tmp_path, source, pip=failing_pip(LOGS["no release for this python"]))
    assert remaining_names(place) == []
    text = str(caught.value)
    assert (
        "environment 'jpc' cannot be made with Python 3.12.1: numpy>=2.5.2 (needed by ngclearn) has no release" in text
    )
    assert "needed Python >=3.12: `pcbench env create jpc PATH_OR_URL --python PATH`" in text
    log = Path(text.rpartition("the log of pip: ")[2])
    assert "numpy>=2.5.2" in log.read_text()
    assert len(text.splitlines()) == 3


def test_a_library_that_cannot_be_imported_is_no_environment(place, tmp_path, source):
    """If this fails, the first `pcbench check` finds what the installation could have said."""
    with pytest.raises(InstallationError, match="cannot be imported there: No module named 'jaxlib'") as caught:
        jpc_environment(tmp_path, source, imported="sys.exit(\"No module named 'jaxlib'\")")
    assert remaining_names(place) == []
    assert "jaxlib" in Path(str(caught.value).rpartition("the log: ")[2]).read_text()


def test_an_environment_that_is_there_is_replaced_only_if_asked(place, tmp_path, source):
    """A second one is refused; one that is asked for takes the place of the first when it is complete, and a failed
    one leaves the first in use."""
    first = jpc_environment(tmp_path, source)
    with pytest.raises(UsageError, match=r"is there already: jpc 1\.0\.0 on Python 3\.12\.1.*--replace"):
        jpc_environment(tmp_path, source)
    with pytest.raises(InstallationError):
        jpc_environment(tmp_path, source, replace_old=True, pip="sys.exit(3)")
    assert environments.read("jpc") == first
    assert first.interpreter.exists()
    second = jpc_environment(tmp_path, source, replace_old=True)
    assert environments.read("jpc") == second
    assert second.interpreter.exists()
    assert not first.directory.exists()
    assert sorted(p.name for p in (place / "jpc").iterdir()) == sorted([RECORD, second.folder])


def test_ctrl_c_leaves_nothing(place, tmp_path, source):
    """If this fails, an interrupted installation leaves a folder without a record, or a pip that goes on."""
    interpreter = python(tmp_path / "python", pip="print('pid', os.getpid(), flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "pcbench.cli.main", "env", "create", "jpc", source, "--python", interpreter]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path)
    deadline, pid = time.monotonic() + 30, None
    while pid is None and time.monotonic() < deadline:
        time.sleep(0.05)
        for log in place.glob("logs/*.log"):
            pid = re.search(r"pid (\d+)\n", log.read_text())
    assert pid is not None
    assert all(p.name.startswith("venv-") for p in (place / "jpc").iterdir())
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert remaining_names(place) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid[1]), 0)


def test_what_a_killed_making_left_is_not_there_and_is_swept_away(place, tmp_path, source):
    """A machine that lost its power gives no chance to tidy up: what has no record must not count."""
    (place / "jpc" / "venv-half" / "bin").mkdir(parents=True)
    assert environments.read("jpc") is None
    assert environments.interpreter("jpc") is None
    record = jpc_environment(tmp_path, source)
    assert sorted(p.name for p in (place / "jpc").iterdir()) == sorted([RECORD, record.folder])


def test_two_makings_at_once_are_refused(place, tmp_path, source):
    """If this fails, two processes write into one environment."""
    folder = environments.folder_of("jpc")
    with environment_making._folder_lock(folder), pytest.raises(UsageError, match="is being made by another process"):
        jpc_environment(tmp_path, source)


def test_a_place_that_cannot_be_written_is_named(tmp_path, source, monkeypatch):
    """If this fails, the command ends in a traceback."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(tmp_path / "file" / "below"))
    with pytest.raises(UsageError, match="PCBENCH_ENVIRONMENTS"):
        jpc_environment(tmp_path, source)


# ---- checkouts on the path ------------------------------------------------------------------------------------------


def test_checkouts_are_put_on_the_path_and_recorded(place, tmp_path, source):
    """If this fails, a library that is no package cannot be imported in the environment made for it."""
    commit = repository(tmp_path / "one")
    (tmp_path / "two").mkdir()
    record = jpc_environment(tmp_path, source, add=[str(tmp_path / "one")])
    result = pcbench("env", "add", "jpc", tmp_path / "two", tmp_path / "one")
    assert result.exit_code == 0, result.output
    record = environments.read("jpc")
    assert record is not None
    assert [entry["path"] for entry in record.added] == [str(tmp_path / "one"), str(tmp_path / "two")]
    assert [entry["commit"] for entry in record.added] == [commit, ""]
    [file] = record.directory.rglob("*.pth")
    assert file.read_text() == f"{tmp_path / 'one'}\n{tmp_path / 'two'}\n"
    assert f"+ {tmp_path / 'one'} at {commit[:10]}" in result.output


def test_only_folders_are_put_on_the_path_of_what_was_made(place, tmp_path):
    """If this fails, a typing error is written into an environment and nothing is found there."""
    with pytest.raises(UsageError, match="is no directory"):
        environment_making.add("torch", [str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="was not made: `pcbench env create torch`"):
        environment_making.add("torch", [str(tmp_path)])
    assert remaining_names(place) == []
