"""What the tests of environments share: an interpreter that is a script and plays pip, checkouts, and logs of pip.

No test reaches a network.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from pcbench.cli.main import main
from pcbench.environments import make as environment_making
from pcbench.environments.catalogue import ENVIRONMENTS, Record

HERE = Path(__file__).parent

# Printed by pip 23.2 and 26.3 on Python 3.11, lists of versions and addresses shortened; those of a full disk and of
# nothing are written by hand.
LOGS = {path.stem.replace("-", " "): path.read_text(encoding="utf-8") for path in HERE.glob("pip_logs/*.txt")}

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


def empty_place(tmp_path, monkeypatch) -> Path:
    """The empty folder in which environments are looked for and made from now on."""
    folder = tmp_path / "environments"
    monkeypatch.setenv("PCBENCH_ENVIRONMENTS", str(folder))
    return folder


def jpc_checkout(tmp_path) -> str:
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
