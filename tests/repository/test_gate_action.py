"""The gate in a pipeline: what `ci/gate.sh` makes of the exit codes, and that the action hands it what it reads."""

import os
import re
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[2] / "ci"


@pytest.fixture
def run(tmp_path):
    """Runs `ci/gate.sh` with a `pcbench` that notes its arguments, writes a summary and ends with a code."""
    program = tmp_path / "bin" / "pcbench"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$NOTED"\n'
        'while [ $# -gt 0 ]; do [ "$1" = --markdown ] && echo summary > "$2"; shift; done\nexit "$CODE"\n'
    )
    program.chmod(0o755)

    def call(code, **settings):
        env = {
            "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "NOTED": str(tmp_path / "noted"),
            "CODE": str(code), "BASE": "main", "IMPLEMENTATION": "a b.py", "RUNNER_TEMP": str(tmp_path),
            "GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), **settings,
        }  # fmt: skip
        done = subprocess.run(["bash", str(CI / "gate.sh")], env=env, capture_output=True, text=True)
        return done, (tmp_path / "noted").read_text().splitlines() if (tmp_path / "noted").exists() else []

    return call


@pytest.mark.parametrize("code", range(6))
def test_undecided_warns_and_everything_else_decides(run, code, tmp_path):
    """If this fails, a regression passes, or noise on a shared runner blocks every merge."""
    done, _ = run(code)
    assert done.returncode == (0 if code in (3, 4) else code)
    assert ("::warning" in done.stdout) is (code in (3, 4))
    assert run(code, UNDECIDED="fail")[0].returncode == code
    assert f"exit-code={code}\n" in (tmp_path / "output").read_text()
    assert "summary" in (tmp_path / "summary").read_text()


def test_words_stay_words_and_nothing_is_executed(run, tmp_path):
    """If this fails, a branch called `$(...)` or `--help` does something."""
    evil = f"$(touch {tmp_path}/evil)"
    _, noted = run(0, BASE=evil, HEAD="--help", OPTIONS="--rows import  --quiet")
    assert noted[noted.index("--") :] == ["--", evil, "--help"]
    assert noted[noted.index("--implementation") + 1] == "a b.py"
    assert noted[noted.index("--rows") + 1] == "import"
    assert not (tmp_path / "evil").exists()
    assert run(0)[1][-2:] == ["--", "main"]


def test_what_is_missing_is_said(run):
    """If this fails, a forgotten input compares something with nothing."""
    done, noted = run(0, BASE="")
    assert done.returncode != 0
    assert "in BASE" in done.stderr
    assert noted == []


def test_action_and_script_agree():
    """If this fails, an input of the action never arrives, or goes into the text of a script."""
    action, script = (CI / "action.yml").read_text(), (CI / "gate.sh").read_text()
    handed = set(re.findall(r"^        ([A-Z]+): \$\{\{ inputs", action, re.M)) - {"INSTALL"}
    assert handed == set(re.findall(r"\$\{([A-Z]+)[:}]", script)) - {"RUNNER"}
    blocks = re.findall(r"run: \|\n((?:        .*\n)+)", action)
    assert len(blocks) == 2
    assert not any("inputs." in block for block in blocks)
    for name in re.findall(r"steps\.gate\.outputs\.([a-z-]+)", action):
        assert f"{name}=%s" in script
