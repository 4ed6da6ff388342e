"""Check out two commits side by side in a temporary directory, and remove them afterwards.

The base is always a commit.  The head is a commit, or the working tree as it is: a copy of every file that git tracks
or would track, so that nothing is stashed, staged or written into the repository.
"""

from __future__ import annotations

import difflib
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pcbench.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """One side's files: what the user called it, the commit, its subject, and how the files differ from the commit.

    **Arguments:** `changes`, as `git status --porcelain` names them, for a working tree only; `tree`, the hash of what
    git has of these files, empty if there are changes.
    """

    name: str
    sha: str
    subject: str
    path: Path
    tree: str = ""
    changes: tuple[str, ...] = ()

    @property
    def description(self) -> str:
        """Name, commit and subject, in a phrase."""
        subject = textwrap.shorten(self.subject, 60, placeholder=" ...")
        text = f"{self.name} ({self.sha[:10]}: {subject})"
        return f"{text} with {len(self.changes)} uncommitted changes" if self.changes else text


def repository_of(directory: Path) -> Path:
    """The top of the working tree that `directory` is in.

    **Raises:** `UsageError` if git is not installed or this is no repository.
    """
    if shutil.which("git") is None:
        raise UsageError("git was not found: `pcbench gate` checks two commits out, install git")
    done = _git(directory, "rev-parse", "--show-toplevel", check=False)
    if done.returncode or not done.stdout.strip():
        raise UsageError(f"{directory} is not inside the working tree of a git repository: run it there or give --repo")
    return Path(done.stdout.strip())


def resolve(repository: Path, name: str, what: str) -> str:
    """The hash of the commit that `name` names; `what` is the word for it in the error.

    **Raises:** `UsageError`, saying what would have been understood.
    """
    done = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    listed = _git(repository, "for-each-ref", "--format=%(refname:short)", check=False).stdout.split()
    near = difflib.get_close_matches(name, listed, n=2)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    shallow = _git(repository, "rev-parse", "--is-shallow-repository", check=False).stdout.strip() == "true"
    fetch = "; this clone is shallow, fetch the commit first (fetch-depth: 0)" if shallow else ""
    raise UsageError(f"{what} {name!r} is no commit of {repository}: needed a branch, a tag or a hash{hint}{fetch}")


def changes_of(repository: Path) -> tuple[str, ...]:
    """What differs between the working tree and its commit, one entry a file, untracked files included."""
    text = _git(repository, "status", "--porcelain", "--untracked-files=all").stdout
    return tuple(line for line in text.splitlines() if line)


@contextmanager
def check_out(repository: Path, base: str, head: str | None, directory: Path) -> Iterator[tuple[Checkout, Checkout]]:
    """Both sides' files below `directory`, removed from the repository's books at the end, in whatever way it comes.

    `head` None is the working tree: its commit if it is clean, else a copy of its files.

    **Raises:** `UsageError` for names that git does not know, before anything is checked out.
    """
    shas = [resolve(repository, base, "BASE"), resolve(repository, head or "HEAD", "HEAD")]
    changes = changes_of(repository) if head is None else ()
    made: list[Path] = []
    try:
        sides = []
        for label, name, sha in zip(("base", "head"), (base, head or "working tree"), shas, strict=True):
            place = directory / label
            if label == "head" and changes:
                _copy_working_tree(repository, place)
            else:
                made.append(place)
                _git(repository, "worktree", "add", "--detach", "--quiet", str(place), sha)
            uncommitted = changes if label == "head" else ()
            tree = "" if uncommitted else _git(repository, "rev-parse", f"{sha}^{{tree}}").stdout.strip()
            subject = _git(repository, "log", "-1", "--format=%s", sha).stdout.strip()
            sides.append(Checkout(name=name, sha=sha, subject=subject, path=place, tree=tree, changes=uncommitted))
        yield sides[0], sides[1]
    finally:
        for place in made:
            _remove(repository, place)


def _remove(repository: Path, place: Path) -> None:
    """Take a worktree away, also one that was interrupted while it was being made."""
    with suppress(OSError, subprocess.SubprocessError):
        _git(repository, "worktree", "remove", "--force", "--force", str(place), check=False)
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError, subprocess.SubprocessError):
        _git(repository, "worktree", "prune", check=False)


def _copy_working_tree(repository: Path, place: Path) -> None:
    listed = _git(repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for name in filter(None, listed.split("\0")):
        source = repository / name
        if source.is_symlink() or source.is_file():  # a tracked file may have been deleted
            target = place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def _git(directory: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One git command; its failure is an error of the user's repository, not of pcbench.

    In a session of its own, because Ctrl-C must not hit git in the middle of its books.
    """
    command = ["git", "-C", str(directory), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    except OSError as error:
        raise UsageError(f"`{' '.join(command)}` does not start: {error}") from None
    if check and done.returncode:
        raise UsageError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()}")
    return done
