"""Which Python an environment is made with, and what is said if none will do."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace

import pytest

from pcbench.environments import interpreters
from pcbench.environments.catalogue import ENVIRONMENTS
from pcbench.errors import UsageError
from tests.environments.making import python, script


def test_the_first_python_that_runs_and_fits_is_taken(tmp_path, monkeypatch):
    """A launcher for a version that is not there, an old one and one without venv are passed over, and a name is looked
    for in every folder of PATH: else the search stops at the first of them."""
    launcher = script(
        tmp_path / "a" / "python3.11", "#!/bin/sh\necho 'launcher: python3.11: not found' >&2\nexit 127\n"
    )
    old = python(tmp_path / "b" / "python3.11", version=(3, 11, 9))
    bare = python(tmp_path / "a" / "python3.12", version=(3, 12, 3), lacks=("ensurepip",))
    good = python(tmp_path / "b" / "python3.12", version=(3, 12, 7))
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / name) for name in "ab"))
    monkeypatch.setattr(sys, "executable", old)
    found = interpreters.find_suitable(ENVIRONMENTS["ngclearn"])
    assert (found.path, found.version) == (good, (3, 12, 7))
    os.remove(good)
    with pytest.raises(UsageError) as caught:
        interpreters.find_suitable(ENVIRONMENTS["ngclearn"])
    text = str(caught.value)
    assert "needs Python 3.12 or later" in text
    assert "numpy>=2.5.2" in text
    assert "--python PATH" in text
    assert f"{old} is Python 3.11.9" in text
    assert f"{launcher} does not run: launcher: python3.11: not found" in text
    assert f"{bare} (Python 3.12.3) cannot make virtual environments: it lacks ensurepip" in text


def test_pcbench_s_own_python_comes_first_if_it_fits(monkeypatch, tmp_path):
    """If this fails, another Python of PATH is taken without need."""
    monkeypatch.setenv("PATH", str(tmp_path))
    own = replace(ENVIRONMENTS["torch"], python=(3, 10), below=None)
    found = interpreters.find_suitable(own)
    assert found.path == sys.executable
    assert found.version == sys.version_info[:3]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"version": (3, 11, 7)}, "needs Python 3.12 or later: it declares numpy>=2.5.2"),
        ({"version": (3, 9, 2)}, "pcbench's workers need 3.10 or later"),
        ({"lacks": ("venv",)}, "lacks venv"),
    ],
)
def test_a_python_that_is_asked_for_must_fit(given, said, tmp_path):
    """If this fails, an installation that cannot succeed downloads hundreds of megabytes first."""
    path = python(tmp_path / "python", **given)
    with pytest.raises(UsageError, match=re.escape(said)):
        interpreters.find_suitable(ENVIRONMENTS["ngclearn"], path)


def test_a_python_that_does_not_exist_or_is_none_is_named(tmp_path):
    """If this fails, a typing error in --python ends in a traceback."""
    with pytest.raises(UsageError, match="does not exist"):
        interpreters.find_suitable(ENVIRONMENTS["pcx"], str(tmp_path / "nothing"))
    other = script(tmp_path / "other", "#!/bin/sh\necho hello\n")
    with pytest.raises(UsageError, match="does not run: hello"):
        interpreters.find_suitable(ENVIRONMENTS["pcx"], other)


def test_another_version_of_the_library_has_needs_of_its_own(tmp_path):
    """If this fails, an older ngclearn cannot be installed on the Python that it was written for."""
    path = python(tmp_path / "python", version=(3, 11, 7))
    assert interpreters.find_suitable(ENVIRONMENTS["ngclearn"], path, checked=False).path == path
