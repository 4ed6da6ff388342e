"""Where code comes from: the commit of a checkout, of an installation, and of a recorded environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pcbench.worker import provenance
from pcbench.worker.provenance import RECORD
from tests.environments.making import repository


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    """If this fails, changed code passes for a commit, or a folder for part of a repository that it only lies in."""
    commit = repository(tmp_path / "r")
    assert provenance.commit_of(str(tmp_path / "r")) == commit
    (tmp_path / "r" / "untracked").mkdir()
    (tmp_path / "r" / "untracked" / "other.py").write_text("")
    assert provenance.commit_of(str(tmp_path / "r")) == commit
    assert provenance.commit_of(str(tmp_path / "r" / "untracked")) == ""
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "r" / "module.py").write_text("x = 2\n")
    assert provenance.commit_of(str(tmp_path / "r")) == commit + "-modified"
    assert provenance.short_commit(commit + "-modified") == commit[:10] + "-modified"
    assert provenance.commit_of(str(tmp_path)) == ""
    assert provenance.commit_of(str(tmp_path / "nowhere")) == ""


def write_dist_info(folder: Path, name: str, url: dict) -> None:
    """What pip leaves of a package that was installed from a URL."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "direct_url.json").write_text(json.dumps(url))


def test_the_commit_of_an_installation(tmp_path, monkeypatch):
    """PEP 610: from a version control system, its commit; from a folder that is edited, that of the folder, if code
    was loaded from there."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    write_dist_info(tmp_path / "site", "fromgit", {"url": "https://example.org", "vcs_info": {"commit_id": "c0ffee"}})
    assert provenance.origin("fromgit", str(tmp_path)) == {"commit": "c0ffee"}
    commit = repository(tmp_path / "with space")
    url = (tmp_path / "with space").as_uri()
    write_dist_info(tmp_path / "site", "edited", {"url": url, "dir_info": {"editable": True}})
    assert provenance.origin("edited", str(tmp_path)) == {}
    provenance.origin.cache_clear()
    monkeypatch.setitem(sys.modules, "edited", type(sys)("edited"))
    monkeypatch.setattr(sys.modules["edited"], "__file__", str(tmp_path / "with space" / "module.py"), raising=False)
    assert provenance.origin("edited", str(tmp_path)) == {"commit": commit}
    assert provenance.origin("nothing-of-that-name", str(tmp_path)) == {}


def test_the_commit_in_a_record_is_that_of_its_library_in_its_folder(tmp_path, monkeypatch):
    """If this fails, the commit of one library is reported for another, or for an environment being made beside it."""
    commit = repository(tmp_path / "added")
    added = [{"path": str(tmp_path / "added"), "commit": "old"}]
    data = {"name": "e", "folder": "venv-1", "library": "My.Lib", "commit": "c0ffee", "added": added}
    (tmp_path / RECORD).write_text(json.dumps(data))
    prefix = str(tmp_path / "venv-1")
    assert provenance.origin("my-lib", prefix) == {"environment": "e", "commit": "c0ffee"}
    assert provenance.origin("other", prefix) == {"environment": "e"}
    assert provenance.origin("my-lib", str(tmp_path / "venv-2")) == {}
    monkeypatch.setitem(sys.modules, "other", type(sys)("other"))
    monkeypatch.setattr(sys.modules["other"], "__file__", str(tmp_path / "added" / "module.py"), raising=False)
    provenance.origin.cache_clear()
    assert provenance.origin("other", prefix) == {"environment": "e", "commit": commit}
