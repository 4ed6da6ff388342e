"""The one-line form of problems beyond MLPs; `test_mlp` has that of the others."""

import pytest

from pcbench.errors import ProblemError
from pcbench.problem.architectures import ArchitectureProblem

LINE = "kind=cnn,width=3,blocks=1,batch=2,side=4,channels=1,stages=1,classes=2"


def test_defaults_are_left_out_and_booleans_are_words():
    """If this fails, lines in reports and known failures of another version are not read."""
    assert ArchitectureProblem.from_line(LINE).line() == LINE
    text = "kind=transformer,width=4,blocks=1,batch=1,tokens=2,heads=2,outputs=3,vocabulary=3"
    problem = ArchitectureProblem.from_line(f" {text}, causal=False,gain=2.0\n")
    assert problem.line() == f"{text},causal=false,gain=2.0"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{LINE},colour=red", r"'colour=red' in the problem: needed field=value, fields are kind, width"),
        (f"{LINE},seed", r"'seed' in the problem: needed field=value"),
        (f"{LINE},width=4", r"width is given twice in the problem 'kind=cnn"),
        (f"{LINE},seed=one", r"seed='one': needed a value of type int"),
        (f"{LINE},causal=yes", r"causal='yes': needed a value of type bool"),
        ("kind=cnn,width=3", r"a problem needs blocks, batch, which this one lacks"),
    ],
)
def test_lines_that_are_not_understood(line, message):
    """If this fails, a line typed wrongly replays something else."""
    with pytest.raises(ProblemError, match=message):
        ArchitectureProblem.from_line(line)
