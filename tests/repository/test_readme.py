"""README.md, CONTRIBUTING.md and docs/ are true: tables, links and the example; nothing is unchecked by accident.

`ci/readme.py --check` runs their commands as well.
"""

import importlib
import re
import sys
from pathlib import Path

import pytest
from pcbench.properties import judge_group

from pcbench.cli.main import main
from pcbench.laws import REGISTRY
from pcbench.laws.definition import Measurement, law
from pcbench.protocol.loading import load
from pcbench.report.profiles import Profile

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
FEW = Profile(name="few", examples=6, groups=1, shapes=4, minimum=1)
FLAT = "contract.target-has-two-axes"


def from_ci(name):
    """A module beside `ci/readme.py`, which is a program and in no package."""
    sys.path.insert(0, str(ROOT / "ci"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "ci"))


@pytest.fixture(scope="module")
def program():
    return from_ci("readme")


@pytest.fixture(scope="module")
def checker():
    return from_ci("readme_links")


@pytest.fixture
def toy(program, tmp_path):
    """The example of README.md, as a reader would save it."""
    text = next(p.text for p in program.parts(README) if p.argument == "toy.py")
    path = tmp_path / "toy.py"
    path.write_text(text)
    return path


# ---- the pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_tables_are_those_of_the_code(program, tmp_path, name):
    """A law, a profile, a convention or an exit code has changed: run `python ci/readme.py --tables`."""
    checked = program.process_page(PAGES[name], tmp_path, commands=False)
    assert checked.stale == []
    assert checked.problems == []


def test_every_law_is_listed_once():
    """The page of laws is not what a reader sees: markers gone, or a law listed by hand."""
    assert re.findall(r"^### `([a-z0-9.-]+)`$", PAGES["docs/laws.md"], re.M) == list(REGISTRY)


def test_every_law_has_an_anchor_of_its_own(checker):
    """A report that links to a law would lead to another one, or nowhere."""
    anchors = checker.anchors(ROOT / "docs" / "laws.md")
    assert {law_id.replace(".", "") for law_id in REGISTRY} <= anchors
    assert len({checker.slug(law_id) for law_id in REGISTRY}) == len(REGISTRY)


def test_every_group_of_laws_is_described():
    """A group was added, and the page of laws cannot say what it is about, or still describes one that is gone."""
    assert set(from_ci("readme_tables").GROUPS) == {law_id.partition(".")[0] for law_id in REGISTRY}


def test_every_table_is_used_once(program):
    """A marker was deleted or misspelt, so that its table no longer follows the code."""
    used = [p.argument for text in PAGES.values() for p in program.parts(text) if p.mark == "generated"]
    assert sorted(used) == sorted(program.TABLES)


def test_every_page_is_looked_after(program):
    """A page was added that `ci/readme.py` leaves out, or that the index, and so the site, does not lead to."""
    assert [path.relative_to(ROOT).as_posix() for path in program.pages()] == [
        "README.md",
        *sorted(set(PAGES) - {"README.md"}),
    ]
    index = set(re.findall(r"\]\(([^)#]+\.md)\)", PAGES["docs/index.md"]))
    assert {name.removeprefix("docs/") for name in PAGES if name.startswith("docs/")} - {"index.md"} <= index


def test_every_shell_block_is_run_or_excused(program):
    """A command in a page would rot unseen."""
    assert [block for text in PAGES.values() for block in program.unaccounted_blocks(text)] == []


def test_the_command_of_the_tests_is_found_once(program, capsys):
    """`.ci/run` would not know how README.md says to run the tests."""
    assert program.command("test", program.pages()) == 0
    assert capsys.readouterr().out == "pip install -e '.[test]' && pytest\n"
    assert program.command("none", program.pages()) == 2


def test_every_command_is_mentioned():
    """A command was added without telling anybody."""
    prose = "".join(text for name, text in PAGES.items() if name != "docs/api.md")  # which lists them by itself
    for name in main.commands:
        assert f"pcbench {name}" in prose


def test_links_lead_somewhere(checker):
    """A file, heading or image that a page points to was moved or never committed, or README.md is too long."""
    assert checker.problems(ROOT) == []


@pytest.mark.parametrize("name", PAGES)
def test_numbers_of_laws_are_generated(program, name):
    """Somebody wrote the number of laws by hand, and it will be wrong tomorrow."""
    text = PAGES[name]
    for part in program.parts(text):
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
    evidence = judge_group(REGISTRY[id], subject_of(load(str(toy))), FEW, 1, 0)
    assert (evidence.outcome, evidence.message) == ("pass", "")
    assert evidence.examples > 0


def test_example_without_its_assert_breaks_the_law_that_is_said(toy, subject_of):
    """README.md shows a failure that no longer happens."""
    toy.write_text("".join(line for line in toy.read_text().splitlines(True) if "assert" not in line))
    assert judge_group(REGISTRY[FLAT], subject_of(load(str(toy))), FEW, 1, 0).outcome == "fail"


# ---- the check itself ------------------------------------------------------------------------------------------------


def test_a_new_law_makes_the_page_stale(program, tmp_path):
    """The check of the tables would pass whatever they say."""
    law("contract.new", statement="new", citation="none", failing_means="nothing")(
        lambda subject, problem: Measurement(error=0.0, allowance=1.0)
    )
    try:
        stale = program.process_page(PAGES["docs/laws.md"], tmp_path, commands=False).stale
    finally:
        del REGISTRY["contract.new"]
    assert len(stale) == 1
    assert "contract.new" in stale[0]


def test_masking_hides_rounding_and_shows_verdicts(program):
    """The check of outputs would either fail on every other machine or miss a law that fails."""
    line = "energy.matches-definition   pass    0.027   16   10\n"
    assert program.mask_lines(line) == program.mask_lines(line.replace("0.027", "3.1e-05").replace("   ", " "))
    assert program.mask_lines(line) != program.mask_lines(line.replace("pass", "fail"))
    total = "72 laws = 69 pass + 0 fail + 3 not-applicable"
    assert program.mask_lines(total) != program.mask_lines(total.replace("0 fail", "1 fail").replace("69", "68"))


def _document(body):
    return f"text\n\n{body}\n"


def test_a_command_that_ends_otherwise_is_a_problem(program, tmp_path):
    """A command of a page could fail and the check pass, or an output that is no longer printed be kept."""
    checked = program.process_page(
        _document(
            "```sh run: exit 3\nexit 3\n```\n\n```sh run\necho 1 law; false\n```\n\n```text output: law\n2 law\n```"
        ),
        tmp_path,
        commands=True,
    )
    assert len(checked.problems) == 1
    assert "echo 1 law; false" in checked.problems[0]
    assert checked.stale == []  # numbers alone differ
    none = _document("```sh run\necho none\n```\n\n```text output: law\nlaw\n```")
    assert len(program.process_page(none, tmp_path, commands=True).stale) == 1


def test_a_page_may_use_what_another_has_written(program, tmp_path):
    """The pages on adapters could not use the example of README.md."""
    program.process_page(_document("```python file: a.py\nprint(1)\n```"), tmp_path, commands=True)
    checked = program.process_page(_document("```sh run\ntest -f a.py\n```"), tmp_path, commands=True)
    assert checked.problems == []


def test_a_block_that_nothing_runs_is_found(program):
    """A shell block without a mark would pass unseen."""
    assert program.unaccounted_blocks(_document("```sh\nrm it\n```\n\n```sh not run: dangerous\nrm it\n```")) == [
        "rm it\n"
    ]


@pytest.mark.parametrize("name", PAGES)
def test_rewriting_is_stable(program, tmp_path, name):
    """Writing the generated parts twice changes the file again, so that --check never agrees."""
    once = program.process_page(PAGES[name], tmp_path, commands=False).text
    assert program.process_page(once, tmp_path, commands=False).text == once


# ---- the check of links ----------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """A repository of two pages, in which every link leads somewhere."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "figure.png").write_bytes(b"")
    (tmp_path / "README.md").write_text("# A b\n\n## `x.y-z`, twice\n\n## `x.y-z`, twice\n\n[b](docs/b.md#two-words)\n")
    (tmp_path / "docs" / "b.md").write_text(
        "# Two *words*\n\n<a id='q'></a> ![f](../figure.png) [a](../README.md#xy-z-twice-1) [self](#two-words)\n"
        "[out](https://example.org/x#y)\n\n```text\n[code](nowhere.md)\n```\n\n`[code](nowhere.md)`\n"
    )
    return tmp_path


def test_links_that_are_right_pass(checker, small):
    """Links in code, to other sites, or to the second of two equal headings are taken for broken ones."""
    assert checker.problems(small) == []


@pytest.mark.parametrize(
    "link",
    [
        "[a](../nowhere.md)",
        "[a](../README.md#no-such-heading)",
        "[a](#no-such-heading)",
        "![a](../nowhere.png)",
        "[![a](../nowhere.png)](../figure.png)",
        "[a](../docs)",
        "[a](../../outside.md)",
        '<img src="nowhere.png">',
    ],
)
def test_a_broken_link_is_found(checker, small, link):
    """A link that leads nowhere would be committed."""
    page = small / "docs" / "c.md"
    page.write_text(f"text {link}\n")
    assert len(checker.problems(small)) == 1
    assert "docs/c.md" in checker.problems(small)[0]


def test_a_readme_that_grows_is_found(checker, small):
    """README.md has grown past what anybody reads."""
    (small / "README.md").write_text("# A b\n\n" + "é" * (checker.README_BYTES // 2))
    assert any("README.md has" in problem for problem in checker.problems(small))


def test_code_that_is_gone_is_found(checker, small):
    """A module or file was moved, and a page still names the old place."""
    (small / "pcbench" / "protocol").mkdir(parents=True)
    page = small / "docs" / "b.md"
    page.write_text(
        "`pcbench.laws` `pcbench.laws.select` `pcbench check` `pcbench/protocol/` `pcbench.nothing` `ci/x.py`"
    )
    assert [problem.split("`")[1] for problem in checker.missing_code(small, page)] == ["ci/x.py", "pcbench.nothing"]
