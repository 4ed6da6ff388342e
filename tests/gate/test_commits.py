"""Two commits side by side, from a repository made for the test, and nothing left of them."""

import os
import subprocess

import pytest

from pcbench.errors import UsageError
from pcbench.gate import commits


def git(place, *arguments):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *settings, *arguments], cwd=place, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(tmp_path):
    place = tmp_path / "repository"
    place.mkdir()
    git(place, "init", "-q")
    (place / ".gitignore").write_text("ignored\n")
    for number in (1, 2):
        (place / "file").write_text(f"{number}\n")
        git(place, "add", "-A")
        git(place, "commit", "-q", "-m", f"number {number}")
    git(place, "tag", "first", "HEAD~1")
    return place


@pytest.fixture
def scratch(tmp_path):
    place = tmp_path / "scratch"
    place.mkdir()
    return place


def worktrees(repository):
    return git(repository, "worktree", "list").strip().splitlines()


def test_both_commits_are_there_and_gone_again(repository, scratch):
    """If this fails, the gate measures the wrong commit, or leaves worktrees behind."""
    with commits.check_out(repository, "first", "HEAD", scratch) as (base, head):
        assert (base.path / "file").read_text() == "1\n"
        assert (head.path / "file").read_text() == "2\n"
        assert (base.subject, head.subject) == ("number 1", "number 2")
        assert base.tree != head.tree
        assert len(worktrees(repository)) == 3
    assert len(worktrees(repository)) == 1
    assert list(scratch.iterdir()) == []
    assert git(repository, "status", "--porcelain") == ""


def test_the_clean_working_tree_is_its_commit(repository, scratch):
    """If this fails, a gate without HEAD judges something else than what is there."""
    with commits.check_out(repository, "HEAD", None, scratch) as (base, head):
        assert (head.path / "file").read_text() == "2\n"
        assert head.changes == ()
        assert base.tree == head.tree  # which the gate reports: everything it finds is noise


def test_the_dirty_working_tree_is_taken_as_it_is(repository, scratch):
    """If this fails, uncommitted changes are left out in silence, or the repository is touched."""
    (repository / "file").write_text("3\n")
    (repository / "new").write_text("new\n")
    (repository / "ignored").write_text("x\n")
    before = git(repository, "status", "--porcelain")
    with commits.check_out(repository, "HEAD", None, scratch) as (base, head):
        assert (base.path / "file").read_text() == "2\n"
        assert (head.path / "file").read_text() == "3\n"
        assert (head.path / "new").exists()
        assert not (head.path / "ignored").exists()
        assert len(head.changes) == 2
        assert "2 uncommitted changes" in head.description
        assert head.tree == ""
    assert git(repository, "status", "--porcelain") == before
    assert len(worktrees(repository)) == 1


def test_a_named_head_leaves_the_changes_out(repository, scratch):
    """If this fails, a named commit is not what is measured."""
    (repository / "file").write_text("3\n")
    with commits.check_out(repository, "first", "HEAD", scratch) as (_, head):
        assert (head.path / "file").read_text() == "2\n"
        assert head.changes == ()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_an_end_in_between(repository, scratch, error):
    """If this fails, Ctrl-C leaves worktrees in somebody's repository."""
    with pytest.raises(error), commits.check_out(repository, "first", "HEAD", scratch):
        raise error
    assert len(worktrees(repository)) == 1
    assert list(scratch.iterdir()) == []


def test_nothing_is_left_if_the_second_checkout_fails(repository, scratch):
    """If this fails, a full disk leaves the first worktree behind."""
    (scratch / "head").mkdir()
    (scratch / "head" / "in the way").write_text("x")
    with pytest.raises(UsageError, match="worktree add"), commits.check_out(repository, "first", "HEAD", scratch):
        pass
    assert len(worktrees(repository)) == 1


def test_a_wrong_name_says_what_was_received_and_needed(repository, scratch):
    """If this fails, a misspelt branch is a traceback."""
    with pytest.raises(UsageError, match=r"BASE 'frist' is no commit of .*needed a branch.*did you mean first"):
        commits.resolve(repository, "frist", "BASE")
    with (
        pytest.raises(UsageError, match="HEAD 'no' is no commit"),
        commits.check_out(repository, "first", "no", scratch),
    ):
        pass
    with pytest.raises(UsageError, match="is no commit"):
        commits.resolve(repository, "--help", "BASE")
    assert list(scratch.iterdir()) == []


def test_a_shallow_clone_is_told_to_fetch(repository, tmp_path):
    """If this fails, the usual mistake of a pipeline is not explained."""
    git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), "shallow")
    with pytest.raises(UsageError, match="fetch-depth: 0"):
        commits.resolve(tmp_path / "shallow", "first", "BASE")


def test_outside_a_repository(scratch, monkeypatch):
    """If this fails, git's own message is all a user sees."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(scratch.parent))
    with pytest.raises(UsageError, match="not inside the working tree"):
        commits.repository_of(scratch)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UsageError, match="install git"):
        commits.repository_of(scratch)
