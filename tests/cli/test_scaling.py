"""`pcbench scaling` as a user meets it."""

import csv
import sys

import pytest
from click.testing import CliRunner

from pcbench.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["scaling", *arguments])


def test_the_command_measures_draws_resumes_and_redraws(tmp_path):
    """If this fails, the command does not do what its help says."""
    arguments = ["--figures", "initialisation", "--widths", "3,6", "--depths", "2", "--repeats", "2", "--batch", "4"]
    arguments += ["--workers", "1", "--output", str(tmp_path)]
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    with (tmp_path / "initialisation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["width"] for r in rows} == {"3", "6"}
    picture = (tmp_path / "initialisation.svg").read_bytes()
    assert b"<svg" in picture
    again = run(*arguments)
    assert "2 of them known" in again.output
    assert (tmp_path / "initialisation.svg").read_bytes() == picture
    (tmp_path / "initialisation.svg").unlink()
    assert run("--redraw", "--figures", "initialisation", "--output", str(tmp_path), "--quiet").exit_code == 0
    assert (tmp_path / "initialisation.svg").read_bytes() == picture


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--figures", "training,nonsense"], "needed some of initialisation, training"),
        (["--widths", "many"], "needed 2 or more sizes"),
        (["--depths", "1"], "at least 2 layers"),
        (["--data", "no-such-folder"], "does not exist"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    """If this fails, a typo costs minutes or ends in a traceback."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_without_dask_the_command_says_what_to_install(monkeypatch, tmp_path):
    """If this fails, a missing library is a traceback."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("--dask", "tcp://localhost:1", "--output", str(tmp_path), "--figures", "initialisation")
    assert result.exit_code == 2
    assert "pip install 'pcbench[cluster]'" in result.output
