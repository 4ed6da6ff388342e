"""What `pcbench new-adapter` writes passes as it is where a maintainer runs it: in a shell, pytest and a workflow."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from pcbench.cli.main import main

CI = Path(__file__).resolve().parents[2] / "ci"
FILES = [
    "tests/my_pc_adapter.py", "tests/my_pc-known-failures.json", "tests/test_my_pc_conformance.py",
    ".github/workflows/pcbench.yml",
]  # fmt: skip
PYTHON = """#!/bin/sh
case "$*" in "-m pip "*) echo "pip: $*" >> pip.txt; exit 0;; esac
exec '{python}' "$@"
"""
PCBENCH = """#!/bin/sh
command=$1
shift
exec '{python}' -m pcbench.cli.main $command "$@" --profile smoke --seed 1 --laws contract,gradient
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A git repository with the files of a new adapter in its folder `tests`, as the current directory."""
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    result = CliRunner().invoke(main, ["new-adapter", "My-PC", "--directory", "tests"])
    assert result.exit_code == 0, result.output
    return tmp_path, result.output


def shell(command, **environment):
    """A command as a workflow runs it; its exit code and what it printed."""
    env = {**os.environ, **environment}
    done = subprocess.run(["bash", "-e", "-c", command], env=env, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def programs(tmp_path_factory):
    """A PATH on which `pcbench` is this one on few laws, and `python -m pip` notes what it was to install."""
    directory = tmp_path_factory.mktemp("bin")
    for name, text in (("python", PYTHON), ("pcbench", PCBENCH)):
        (directory / name).write_text(text.format(python=sys.executable))
        (directory / name).chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


def test_files_lie_where_they_are_said_to(repository):
    """If this fails, a maintainer has to look for what was written, or GitHub does not find the workflow."""
    top, output = repository
    assert re.findall(r"^wrote (\S+)$", output, re.M) == FILES
    assert all((top / name).is_file() for name in FILES)
    assert "  pcbench check tests/my_pc_adapter.py --profile smoke\n" in output
    assert "  pytest -q tests/test_my_pc_conformance.py\n" in output
    assert output.endswith(f"  git add {' '.join(FILES)}\n")


@pytest.mark.parametrize("there", FILES)
def test_nothing_is_written_if_one_file_exists(repository, there):
    """If this fails, somebody's work is overwritten, or half a scaffold left behind."""
    top, _ = repository
    for name in set(FILES) - {there}:
        (top / name).unlink()
    (top / there).write_text("mine")
    result = CliRunner().invoke(main, ["new-adapter", "My-PC", "--directory", "tests"])
    assert result.exit_code == 2
    assert f"nothing was written: {there} exists already" in result.output
    assert ("--no-workflow" in result.output) is there.startswith(".github")
    assert [name for name in FILES if (top / name).exists()] == [there]
    assert (top / there).read_text() == "mine"


def test_a_second_adapter_leaves_the_workflow_alone(repository):
    """If this fails, a repository can have one adapter only."""
    top, _ = repository
    result = CliRunner().invoke(main, ["new-adapter", "other", "--no-workflow"])
    assert result.exit_code == 0, result.output
    assert (top / "other_adapter.py").is_file()
    assert "pcbench.yml" not in result.output


def test_the_tests_pass_as_they_are_and_over_several_processes(repository):
    """If this fails, the first thing that a maintainer runs fails."""
    code, output = shell(f"'{sys.executable}' -m pytest -q -p no:cacheprovider")
    assert code == 0, output
    assert re.search(r"^\d+ passed, \d+ skipped in", output, re.M)
    assert "profile smoke, seed 1" in output
    total = re.search(r"^\d+ laws = .*", output, re.M)
    assert total is not None
    laws = "--pcn-laws contract,energy"
    code, spread = shell(f"'{sys.executable}' -m pytest -q -p no:cacheprovider -n 2 {laws}")
    assert code == 0, spread
    assert "FAILED" not in spread


def test_the_tests_are_skipped_where_pcbench_is_not_installed(repository):
    """If this fails, a library's own test suite needs pcbench."""
    top, _ = repository
    (top / "tests" / "conftest.py").write_text("import sys\nsys.modules['pcbench.plugin'] = None\n")
    code, output = shell(f"'{sys.executable}' -m pytest -q -p no:cacheprovider -p no:pcbench -rs tests")
    assert code == pytest.ExitCode.NO_TESTS_COLLECTED, output
    assert "pcbench is not installed" in output


def test_every_step_of_the_workflow_runs(repository, programs):
    """If this fails, the pipeline that a maintainer commits is red before anything is wrong."""
    top, _ = repository
    workflow = yaml.safe_load((top / FILES[-1]).read_text())
    assert workflow["permissions"] == {"contents": "read"}
    ran = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert len(ran) >= 5
    (top / "pyproject.toml").write_text("")
    for command in ran:
        assert "${{" not in command  # what comes from outside never goes into the text of a script
        code, output = shell(command, PATH=programs, GITHUB_STEP_SUMMARY=str(top / "summary"))
        assert code == 0, (command, output)
    assert (top / "pip.txt").read_text().splitlines() == [
        "pip: -m pip install ./pcbench-checkout pytest pytest-xdist", *2 * ["pip: -m pip install ."],
    ]  # fmt: skip
    assert "conforms" in (top / "summary").read_text()
    assert (top / "pcbench.json").is_file()


def test_the_workflow_gives_the_action_what_it_asks_for(repository):
    """If this fails, the gate of a maintainer's pull request ends before it begins."""
    top, _ = repository
    workflow = yaml.safe_load((top / FILES[-1]).read_text())
    inputs = yaml.safe_load((CI / "action.yml").read_text())["inputs"]
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    [gate] = [step for step in steps if step.get("uses", "").startswith("OWNER/pcbench/ci@")]
    assert set(gate["with"]) <= set(inputs)
    assert {name for name, value in inputs.items() if value.get("required")} <= set(gate["with"])
    example = (CI / "example-workflow.yml").read_text()
    used = {step["uses"] for step in steps if "uses" in step}
    assert all(f"uses: {name}\n" in example or f"uses: {name} #" in example for name in used)
    options = gate["with"]["options"].split()
    gate_options = {name for param in main.commands["gate"].params for name in param.opts}
    assert {word for word in options if word.startswith("--")} <= gate_options
    assert (top / gate["with"]["implementation"]).is_file()
    assert (top / options[-1]).is_file()
