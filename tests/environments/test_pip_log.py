"""What pip prints when an installation fails is told in a sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pcbench.environments import make as environment_making
from pcbench.environments.catalogue import ENVIRONMENTS
from pcbench.environments.pip_log import cause
from pcbench.errors import InstallationError
from tests.environments.making import LOGS, failing_pip, pcbench, python


@pytest.mark.parametrize(
    ("log", "what", "needed"),
    [
        (
            "no release for this python",
            "numpy>=2.5.2 (needed by ngclearn) has no release for Python 3.11.7",
            ">=3.12",
        ),
        ("a python it does not declare", "toonew declares Python >=3.12", ">=3.12"),
        (
            "a contradiction",
            "requirements contradict each other: pcbench asks for jax>=0.7; "
            "jpc 1.0.0 depends on jax<=0.5.2 and >=0.4.38",
            "",
        ),
        (
            "a requirement that nothing fits",
            "nothing that Python 3.11.7 can have fits numpy>=2.5.2 (needed by ngclearn 3.2.3)",
            "",
        ),
        ("a version that is not there", "no release of pcx fits pcx==9.9.9: the newest is 0.6.3", ""),
        ("an index that does not answer", "the package index could not be reached for pcx==0.6.3", ""),
        ("no index", "no package index has numpy>=99 (needed by toonew) for Python 3.11.7", ""),
        (
            "a repository that is not there",
            "git could not fetch the source: '/nothing.git' does not appear to be a git repository",
            "",
        ),
        (
            "a build that fails",
            "nobuild could not be built: cc1: fatal error: missing.c: No such file or directory",
            "",
        ),
        ("no backend", "file:///broken could not be built: ModuleNotFoundError: No module named 'nothing_here'", ""),
        ("a bug", "ModuleNotFoundError: No module named 'nothing_here'", ""),
        ("a full disk", "there is no space left on the disk", ""),
        ("nothing", "pip printed nothing", ""),
    ],
)
def test_what_pip_says_is_told_in_a_sentence(log, what, needed):
    """If this fails, a user has to read pages of pip's output to learn which requirement is at fault."""
    found = cause(LOGS[log], "3.11.7")
    assert (found.what, found.python) == (what, needed)


def test_ngclearn_on_an_old_python_says_what_to_do(place, tmp_path):
    """The whole message, as it is shown."""
    environment = replace(ENVIRONMENTS["ngclearn"], python=(3, 10))  # as its own metadata has it
    interpreter = python(tmp_path / "python", version=(3, 11, 7), pip=failing_pip(LOGS["no release for this python"]))
    with pytest.raises(InstallationError) as caught:
        environment_making.make_environment(environment, python=interpreter)
    first, second, third = str(caught.value).splitlines()
    assert first == (
        "environment 'ngclearn' cannot be made with Python 3.11.7: "
        "numpy>=2.5.2 (needed by ngclearn) has no release for Python 3.11.7"
    )
    assert second == "needed Python >=3.12: `pcbench env create ngclearn --python PATH`, with the path of one"
    assert third.startswith("the log of pip: ")
    result = pcbench("env", "create", "ngclearn", "--python", interpreter)
    assert result.exit_code == 2
    assert "ngclearn" in result.output
