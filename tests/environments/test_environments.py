"""Environments: what they need, how they are made, found, listed and removed, and what is said if that fails.

No test reaches a network.  Most use an interpreter that is a script and plays pip; one makes a real virtual environment
and installs a package from a folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pcbench.adapters import register as adapters
from pcbench.adapters.register import KNOWN, AdapterEntry
from pcbench.cli.main import main
from pcbench.conformance import run as runner
from pcbench.environments import catalogue as environments
from pcbench.environments import interpreters
from pcbench.environments import make as environment_making
from pcbench.environments.catalogue import ENVIRONMENTS, Environment, Record
from pcbench.environments.pip_log import cause
from pcbench.errors import InstallationError, MissingLibraryError, UsageError
from pcbench.report.evidence import Verdict, Worst
from pcbench.report.report import LawText, Report, RunHeader
from pcbench.worker import provenance
from pcbench.worker.client import WorkerClient
from pcbench.worker.provenance import RECORD

HERE = Path(__file__).parent

# Plays a Python of any version: it says who it is, makes a virtual environment of itself, and is its pip.
PYTHON = """#!{own}
import json, os, shutil, sys, time
here, words = os.path.abspath(__file__), sys.argv[1:]
if words[0] == "-c" and len(words) == 2:
    print(json.dumps({{"version": {version}, "lacks": {lacks}, "base": here}}))
elif words[0] == "-c":
    {imported}
    print("noise")
    print(json.dumps({{"packages": {{"numpy": "2.0", "jpc": "1.0.0"}}, "version": "1.0.0", "url": {url}}}))
elif words[:2] == ["-m", "venv"]:
    os.makedirs(words[2] + "/bin")
    os.makedirs(words[2] + "/lib/python3.12/site-packages")
    shutil.copy(here, words[2] + "/bin/python")
elif words[:2] == ["-m", "pip"]:
    print("pip was given", words[2:], flush=True)
    {pip}
"""


def script(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def python(path: Path, *, version=(3, 12, 1), lacks=(), pip="pass", imported="pass", url="{}") -> str:
    """An interpreter that is a script."""
    text = PYTHON.format(
        own=sys.executable, version=list(version), lacks=list(lacks), pip=pip, imported=imported, url=url
    )
    return script(path, text)


def failing_pip(log: str) -> str:
    """The code of a pip that prints this and fails."""
    return f"print({log!r}); sys.exit(1)"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder of environments."""
    folder = tmp_path / "environments"
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(folder))
    return folder


@pytest.fixture
def source(tmp_path):
    """A folder that looks like a checkout of jpc."""
    folder = tmp_path / "jpc-checkout"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("")
    return str(folder)


def jpc_environment(tmp_path, source, **options) -> Record:
    """An environment of jpc, by a script for a Python."""
    interpreter = python(tmp_path / "python", **{k: options.pop(k) for k in ("imported", "url", "pip") if k in options})
    return environment_making.make_environment(ENVIRONMENTS["jpc"], source=source, python=interpreter, **options)


def remaining_names(place: Path) -> list[str]:
    """Everything in the folder of environments but logs and locks."""
    return sorted(p.name for p in place.iterdir() if p.name != "logs" and not p.name.endswith(".lock"))


def pcbench(*args):
    return CliRunner().invoke(main, [str(a) for a in args])


def repository(folder: Path) -> str:
    """A git repository with one file, and its commit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "module.py").write_text("x = 1\n")
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


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


# ---- which Python ---------------------------------------------------------------------------------------------------


def test_the_first_python_that_runs_and_fits_is_taken(tmp_path, monkeypatch):
    """A launcher for a version that is not there, an old one and one without venv are passed over, and a name is looked
    for in every folder of PATH: else the search stops at the first of them."""
    launcher = script(
        tmp_path / "a" / "python3.11", "#!/bin/sh\necho 'launcher: python3.11: not found' >&2\nexit 127\n"
    )
    old = python(tmp_path / "b" / "python3.11", version=(3, 11, 9))
    bare = python(tmp_path / "a" / "python3.12", version=(3, 12, 3), lacks=("ensurepip",))
    good = python(tmp_path / "b" / "python3.12", version=(3, 12, 7))
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in "ab"))
    monkeypatch.setattr(sys, "executable", old)
    found = interpreters.find_suitable(ENVIRONMENTS["ngclearn"])
    assert (found.path, found.version) == (good, (3, 12, 7))
    os.remove(good)
    with pytest.raises(UsageError) as caught:
        interpreters.find_suitable(ENVIRONMENTS["ngclearn"])
    text = str(caught.value)
    assert "needs Python 3.12 or later" in text
    assert "numpy>=2.5.2" in text
    assert "--python PATH" in text
    assert f"{old} is Python 3.11.9" in text
    assert f"{launcher} does not run: launcher: python3.11: not found" in text
    assert f"{bare} (Python 3.12.3) cannot make virtual environments: it lacks ensurepip" in text


def test_pcbench_s_own_python_comes_first_if_it_fits(monkeypatch, tmp_path):
    """If this fails, another Python of PATH is taken without need."""
    monkeypatch.setenv("PATH", str(tmp_path))
    own = replace(ENVIRONMENTS["torch"], python=(3, 10), below=None)
    found = interpreters.find_suitable(own)
    assert found.path == sys.executable
    assert found.version == sys.version_info[:3]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"version": (3, 11, 7)}, "needs Python 3.12 or later: it declares numpy>=2.5.2"),
        ({"version": (3, 9, 2)}, "pcbench's workers need 3.10 or later"),
        ({"lacks": ("venv",)}, "lacks venv"),
    ],
)
def test_a_python_that_is_asked_for_must_fit(given, said, tmp_path):
    """If this fails, an installation that cannot succeed downloads hundreds of megabytes first."""
    path = python(tmp_path / "python", **given)
    with pytest.raises(UsageError, match=re.escape(said)):
        interpreters.find_suitable(ENVIRONMENTS["ngclearn"], path)


def test_a_python_that_does_not_exist_or_is_none_is_named(tmp_path):
    """If this fails, a typing error in --python ends in a traceback."""
    with pytest.raises(UsageError, match="does not exist"):
        interpreters.find_suitable(ENVIRONMENTS["pcx"], str(tmp_path / "nothing"))
    other = script(tmp_path / "other", "#!/bin/sh\necho hello\n")
    with pytest.raises(UsageError, match="does not run: hello"):
        interpreters.find_suitable(ENVIRONMENTS["pcx"], other)


def test_another_version_of_the_library_has_needs_of_its_own(tmp_path):
    """If this fails, an older ngclearn cannot be installed on the Python that it was written for."""
    path = python(tmp_path / "python", version=(3, 11, 7))
    assert interpreters.find_suitable(ENVIRONMENTS["ngclearn"], path, checked=False).path == path


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


# ---- listing and removing -------------------------------------------------------------------------------------------


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


# ---- a real one -----------------------------------------------------------------------------------------------------

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


# ---- where code comes from ------------------------------------------------------------------------------------------


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    """If this fails, changed code passes for a commit, or a folder for part of a repository that it only lies in."""
    commit = repository(tmp_path / "r")
    assert provenance.commit_of(str(tmp_path / "r")) == commit
    (tmp_path / "r" / "untracked").mkdir()
    (tmp_path / "r" / "untracked" / "other.py").write_text("")
    assert provenance.commit_of(str(tmp_path / "r")) == commit
    assert provenance.commit_of(str(tmp_path / "r" / "untracked")) == ""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "r" / "module.py").write_text("x = 2\n")
    assert provenance.commit_of(str(tmp_path / "r")) == commit + "-modified"
    assert provenance.short_commit(commit + "-modified") == commit[:10] + "-modified"
    assert provenance.commit_of(str(tmp_path)) == ""
    assert provenance.commit_of(str(tmp_path / "nowhere")) == ""


def write_dist_info(folder: Path, name: str, url: dict) -> None:
    """What pip leaves of a package that was installed from a URL."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps(url))


def test_the_commit_of_an_installation(tmp_path, monkeypatch):
    """PEP 610: from a version control system, its commit; from a folder that is edited, that of the folder, if code
    was loaded from there."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write_dist_info(tmp_path / "site", "fromgit", {"url": "https://example.org", "vcs_info": {"commit_id": "c0ffee"}})
    assert provenance.origin("fromgit", str(tmp_path)) == {"commit": "c0ffee"}
    commit = repository(tmp_path / "with space")
    url = (tmp_path / "with space").as_uri()
    write_dist_info(tmp_path / "site", "edited", {"url": url, "dir_info": {"editable": True}})
    assert provenance.origin("edited", str(tmp_path)) == {}
    provenance.origin.cache_clear()
    monkeypatch.setitem(sys.modules, "edited", type(sys)("edited"))
    monkeypatch.setattr(sys.modules["edited"], "__file__", str(tmp_path / "with space" / "module.py"), raising=False)
    assert provenance.origin("edited", str(tmp_path)) == {"commit": commit}
    assert provenance.origin("nothing-of-that-name", str(tmp_path)) == {}


def test_the_commit_in_a_record_is_that_of_its_library_in_its_folder(tmp_path, monkeypatch):
    """If this fails, the commit of one library is reported for another, or for an environment being made beside it."""
    commit = repository(tmp_path / "added")
    added = [{"path": str(tmp_path / "added"), "commit": "old"}]
    data = {"name": "e", "folder": "venv-1", "library": "My.Lib", "commit": "c0ffee", "added": added}
    (tmp_path / RECORD).write_text(json.dumps(data))
    prefix = str(tmp_path / "venv-1")
    assert provenance.origin("my-lib", prefix) == {"environment": "e", "commit": "c0ffee"}
    assert provenance.origin("other", prefix) == {"environment": "e"}
    assert provenance.origin("my-lib", str(tmp_path / "venv-2")) == {}
    monkeypatch.setitem(sys.modules, "other", type(sys)("other"))
    monkeypatch.setattr(sys.modules["other"], "__file__", str(tmp_path / "added" / "module.py"), raising=False)
    provenance.origin.cache_clear()
    assert provenance.origin("other", prefix) == {"environment": "e", "commit": commit}


# ---- what pip says --------------------------------------------------------------------------------------------------

# Printed by pip 23.2 and 26.3 on Python 3.11, lists of versions and addresses shortened; those of a full disk and of
# nothing are written by hand.
LOGS = {path.stem.replace("-", " "): path.read_text(encoding="utf-8") for path in HERE.glob("pip_logs/*.txt")}


@pytest.mark.parametrize(
    ("log", "what", "needed"),
    [
        (
            "no release for this python",
            "numpy>=2.5.2 (needed by ngclearn) has no release for Python 3.11.7",
            ">=3.12",
        ),
        ("a python it does not declare", "toonew declares Python >=3.12", ">=3.12"),
        (
            "a contradiction",
            "requirements contradict each other: pcbench asks for jax>=0.7; "
            "jpc 1.0.0 depends on jax<=0.5.2 and >=0.4.38",
            "",
        ),
        (
            "a requirement that nothing fits",
            "nothing that Python 3.11.7 can have fits numpy>=2.5.2 (needed by ngclearn 3.2.3)",
            "",
        ),
        ("a version that is not there", "no release of pcx fits pcx==9.9.9: the newest is 0.6.3", ""),
        ("an index that does not answer", "the package index could not be reached for pcx==0.6.3", ""),
        ("no index", "no package index has numpy>=99 (needed by toonew) for Python 3.11.7", ""),
        (
            "a repository that is not there",
            "git could not fetch the source: '/nothing.git' does not appear to be a git repository",
            "",
        ),
        (
            "a build that fails",
            "nobuild could not be built: cc1: fatal error: missing.c: No such file or directory",
            "",
        ),
        ("no backend", "file:///broken could not be built: ModuleNotFoundError: No module named 'nothing_here'", ""),
        ("a bug", "ModuleNotFoundError: No module named 'nothing_here'", ""),
        ("a full disk", "there is no space left on the disk", ""),
        ("nothing", "pip printed nothing", ""),
    ],
)
def test_what_pip_says_is_told_in_a_sentence(log, what, needed):
    """If this fails, a user has to read pages of pip's output to learn which requirement is at fault."""
    found = cause(LOGS[log], "3.11.7")
    assert (found.what, found.python) == (what, needed)


def test_ngclearn_on_an_old_python_says_what_to_do(place, tmp_path):
    """The whole message, as it is shown."""
    environment = replace(ENVIRONMENTS["ngclearn"], python=(3, 10))  # as its own metadata has it
    interpreter = python(tmp_path / "python", version=(3, 11, 7), pip=failing_pip(LOGS["no release for this python"]))
    with pytest.raises(InstallationError) as caught:
        environment_making.make_environment(environment, python=interpreter)
    first, second, third = str(caught.value).splitlines()
    assert first == (
        "environment 'ngclearn' cannot be made with Python 3.11.7: "
        "numpy>=2.5.2 (needed by ngclearn) has no release for Python 3.11.7"
    )
    assert second == "needed Python >=3.12: `pcbench env create ngclearn --python PATH`, with the path of one"
    assert third.startswith("the log of pip: ")
    result = pcbench("env", "create", "ngclearn", "--python", interpreter)
    assert result.exit_code == 2
    assert "ngclearn" in result.output
