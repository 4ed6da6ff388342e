"""README.md is true: its tables are those of the code, its example passes, and nothing in it is unchecked by accident.

`ci/readme.py --check` runs its commands as well.
"""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from pcbench.properties import judge

from pcbench.cli.main import main
from pcbench.laws import REGISTRY
from pcbench.laws.law import Measurement, law
from pcbench.protocol.loading import load
from pcbench.report.profiles import Profile

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FEW = Profile(name="few", examples=6, groups=1, shapes=4, minimum=1)
FLAT = "contract.target-has-two-axes"


@pytest.fixture(scope="module")
def program():
    """`ci/readme.py` as a module; it is a program and in no package."""
    spec = importlib.util.spec_from_file_location("ci_readme", ROOT / "ci" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def toy(program, tmp_path):
    """The example of README.md, as a reader would save it."""
    text = next(p.text for p in program.parts(README) if p.argument == "toy.py")
    path = tmp_path / "toy.py"
    path.write_text(text)
    return path


# ---- the file --------------------------------------------------------------------------------------------------------


def test_tables_are_those_of_the_code(program):
    """A law, a profile, a convention or an exit code has changed: run `python ci/readme.py --tables`."""
    _, stale, problems = program.process(README, commands=False)
    assert stale == []
    assert problems == []


def test_every_law_is_listed_once():
    """The table of laws is not what a reader sees: markers gone, or a law listed by hand."""
    listed = re.findall(r"^\| `([a-z0-9.-]+\.[a-z0-9-]+)` \|", README, re.M)
    assert listed == list(REGISTRY)


def test_every_table_is_used(program):
    """A marker was deleted or misspelt, so that its table no longer follows the code."""
    assert {p.argument for p in program.parts(README) if p.mark == "generated"} == set(program.TABLES)


def test_every_shell_block_is_run_or_excused(program):
    """A command in README.md would rot unseen."""
    assert program.unaccounted(README) == []


def test_every_command_and_exit_code_is_mentioned():
    """A command was added without telling anybody."""
    for name in main.commands:
        assert f"`pcbench {name}" in README


def test_links_lead_somewhere():
    """A file that README.md points to was moved or never committed."""
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in t]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_files_named_in_the_text_exist():
    """Code was moved and README.md still names the old place."""
    named = re.findall(r"`((?:pcbench|ci|tests|properties|\.ci)/[\w./-]*)`", README)
    assert named
    assert [n for n in named if not (ROOT / n).exists()] == []


def test_readme_stays_short(program):
    """It has grown past what anybody reads, what is generated left out."""
    generated = sum(p.text.count("\n") for p in program.parts(README) if p.mark == "generated")
    assert len(README.splitlines()) - generated < 440


def test_numbers_of_laws_are_generated(program):
    """Somebody wrote the number of laws by hand, and it will be wrong tomorrow."""
    text = README
    for part in program.parts(README):
        if part.mark in ("generated", "output"):
            text = text.replace(part.text, "")
    assert re.findall(r"\b\d+ (?:applicable )?laws\b", text) == []


# ---- the example -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "id",
    [
        "contract.shapes-and-dtypes",
        FLAT,
        "energy.matches-definition",
        "gradient.weights-match-definition",
        "inference.step-follows-definition",
    ],
)
def test_example_obeys(toy, subject_of, id):
    """The adapter that README.md tells people to start from is wrong."""
    evidence = judge(REGISTRY[id], subject_of(load(str(toy))), FEW, 1, 0)
    assert (evidence.outcome, evidence.message) == ("pass", "")
    assert evidence.examples > 0


def test_example_without_its_assert_breaks_the_law_that_is_said(toy, subject_of):
    """README.md shows a failure that no longer happens."""
    toy.write_text("".join(line for line in toy.read_text().splitlines(True) if "assert" not in line))
    assert judge(REGISTRY[FLAT], subject_of(load(str(toy))), FEW, 1, 0).outcome == "fail"


# ---- the check itself ------------------------------------------------------------------------------------------------


def test_a_new_law_makes_the_table_stale(program):
    """The check of the tables would pass whatever they say."""
    law("zzz.new", statement="new", citation="none", failing_means="nothing")(
        lambda subject, problem: Measurement(error=0.0, allowance=1.0)
    )
    try:
        _, stale, _ = program.process(README, commands=False)
    finally:
        del REGISTRY["zzz.new"]
    assert len(stale) == 1
    assert "zzz.new" in stale[0]


def test_masking_hides_rounding_and_shows_verdicts(program):
    """The check of outputs would either fail on every other machine or miss a law that fails."""
    line = "energy.matches-definition   pass    0.027   16   10\n"
    assert program.masked(line) == program.masked(line.replace("0.027", "3.1e-05").replace("   ", " "))
    assert program.masked(line) != program.masked(line.replace("pass", "fail"))
    total = "72 laws = 69 pass + 0 fail + 3 not-applicable"
    assert program.masked(total) != program.masked(total.replace("0 fail", "1 fail").replace("69", "68"))


def _document(body):
    return f"text\n\n{body}\n"


def test_a_command_that_ends_otherwise_is_a_problem(program):
    """A command of README.md could fail and the check pass, or an output that is no longer printed be kept."""
    _, stale, problems = program.process(
        _document(
            "```sh run: exit 3\nexit 3\n```\n\n```sh run\necho 1 law; false\n```\n\n```text output: law\n2 law\n```"
        ),
        commands=True,
    )
    assert len(problems) == 1
    assert "echo 1 law; false" in problems[0]
    assert stale == []  # numbers alone differ
    _, stale, _ = program.process(
        _document("```sh run\necho none\n```\n\n```text output: law\nlaw\n```"), commands=True
    )
    assert len(stale) == 1


def test_a_block_that_nothing_runs_is_found(program):
    """A shell block without a mark would pass unseen."""
    assert program.unaccounted(_document("```sh\nrm it\n```\n\n```sh not run: dangerous\nrm it\n```")) == ["rm it\n"]


def test_rewriting_is_stable(program):
    """Writing the generated parts twice changes the file again, so that --check never agrees."""
    once, _, _ = program.process(README, commands=False)
    assert program.process(once, commands=False)[0] == once
