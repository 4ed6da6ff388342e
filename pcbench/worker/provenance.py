"""Find the commit of an installed library, since version strings do not always identify it.

The commit is that of pip's record of an installation (PEP 610), of the record of an environment that pcbench made, or
of the checkout from which modules are loaded.  Standard library only, Python 3.10 or later: it runs in the interpreter
of the library.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from typing import Any
from urllib.parse import unquote, urlsplit

RECORD = "environment.json"
"""The file beside a virtual environment that pcbench made which says what is in it."""

MODIFIED = "-modified"
"""Ends a commit whose files have been changed since."""

_GIT_SECONDS = 10.0


@cache
def origin(library: str, prefix: str = sys.prefix) -> dict[str, str]:
    """What is known of `library` in the environment at `prefix`: `environment`, its name if pcbench made it, `commit`.

    What is not known is left out.  A commit ends in `-modified` if the files of its checkout differ from it.
    """
    record = _record(prefix)
    found = {"environment": str(record["name"])} if record else {}
    commit = _commit(library, record)
    return {**found, "commit": commit} if commit else found


def commit_of(directory: str) -> str:
    """The commit of the checkout at `directory`, with `-modified` if changed since; empty where there is none."""
    # What git is told by a hook it runs in is about another repository.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env["GIT_OPTIONAL_LOCKS"] = "0"

    def git(*words: str) -> str:
        command = ["git", "-C", directory, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=True, env=env, stdin=subprocess.DEVNULL
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "--", ".")  # a folder that a repository around it does not track is no part
        head = git("rev-parse", "HEAD")
        return head + (MODIFIED if git("status", "--porcelain", "--untracked-files=no", "--", ".") else "")
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return ""


def short_commit(commit: str) -> str:
    """A commit with 10 digits; `-modified` stays."""
    head, mark, _ = commit.partition(MODIFIED)
    return head[:10] + mark


def direct_url(library: str) -> dict[str, Any]:
    """What pip recorded if `library` was installed from a URL or a directory (PEP 610), else nothing."""
    try:
        return dict(json.loads(metadata.distribution(library).read_text("direct_url.json") or "{}"))
    except (metadata.PackageNotFoundError, OSError, ValueError, TypeError):
        return {}


def _record(prefix: str) -> dict[str, Any]:
    folder, name = os.path.split(os.path.abspath(prefix))
    try:
        with open(os.path.join(folder, RECORD), encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    # An environment that is being made, or was replaced, lies beside the one that the record is about.
    return record if isinstance(record, dict) and record.get("folder") == name and "name" in record else {}


def _commit(library: str, record: dict[str, Any]) -> str:
    if not library:
        return ""
    pip = direct_url(library)
    commit = str(pip.get("vcs_info", {}).get("commit_id", ""))
    if commit:
        return commit
    if pip.get("dir_info", {}).get("editable"):
        directory = unquote(urlsplit(str(pip.get("url", ""))).path)
        return commit_of(directory) if _is_loaded_from(directory) else ""
    if same_distribution(library, str(record.get("library", ""))) and record.get("commit"):
        return str(record["commit"])
    added = (str(entry.get("path", "")) for entry in record.get("added", ()))
    return next((commit_of(path) for path in added if _is_loaded_from(path)), "")


def same_distribution(one: str, other: str) -> bool:
    """Whether two names of distributions are the same for pip."""
    return re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()


def _is_loaded_from(directory: str) -> bool:
    """Whether a module has been loaded from below `directory`."""
    below = os.path.realpath(directory) + os.sep
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return bool(directory) and any(os.path.realpath(file).startswith(below) for file in files if file)
