"""`pcbench bench`: wrong arguments, its help, and the exit code of a run that may show nothing."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from pcbench.cli.main import main
from pcbench.leaderboard import cases, conformance
from tests.leaderboard.boards import report, write_mine


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current directory, with the implementations of `mine.py`."""
    write_mine(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_that_conforms_is_code_1(place, monkeypatch):
    """If this fails, a run that may show nothing looks like a success."""
    bad = {"energy.matches-definition": "fail"}
    monkeypatch.setattr(conformance, "judge_entrant", lambda entrant, dtype, **rest: report(bad, entrant.name))
    result = CliRunner().invoke(main, ["bench", "numpy", "--quick", "--output", "out"])
    assert result.exit_code == 1, result.output
    assert "nothing was measured: numpy in float64 did not conform" in result.output
    assert not (place / "out" / "bench.png").exists()
    assert "energy.matches-definition: fail" in (place / "out" / "bench.md").read_text().replace("\\", "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nunpy"], "did you mean 'numpy'"),
        (["numpy=/no/such/python"], "does not exist"),
        (["numpy", "numpy"], "given twice"),
        (["numpy", "mine.py:Namesake"], "two implementations are called 'numpy'"),
        (["numpy", "--output", "mine.py"], "cannot be made"),
        (["numpy", "--output", "mine.py/below"], "cannot be made"),
        (["numpy", "--dtypes", "half"], "needed some of"),
        (["numpy", "--problem", "N=3"], "a problem needs input_dim"),
        (["numpy", "--quick", "--problem", "D=1,N=1,L=2,K=1,B=1"], "leave out --problem"),
        (["numpy", "--tolerances", "2"], "needed numbers between 0 and 1"),
        (["numpy", "--conformance", "nothing.json"], "nothing.json"),
        (["mine.py:Absent"], "has no attribute"),
        ([], "Missing argument"),
    ],
)
def test_a_wrong_command_is_refused_with_code_2(place, arguments, said):
    """If this fails, a mistake ends in a traceback, or is found out after minutes."""
    result = CliRunner().invoke(main, ["bench", *arguments])
    assert result.exit_code == 2, result.output
    assert said in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (place / "bench" / "bench.json").exists()


def test_the_help_lists_problems_and_exit_codes():
    """If this fails, somebody has to read the source to know what is measured."""
    text = CliRunner().invoke(main, ["bench", "--help"]).output
    for name in (*cases.PROBLEMS, *cases.QUICK):
        assert name in text
    for problem in cases.PROBLEMS.values():
        assert f"N={problem.width}, L={problem.depth}, {problem.batch} samples" in text
    assert "\\b" not in text
    for code in (0, 1, 2, 3, 130):
        assert f"\n    {code} " in text
