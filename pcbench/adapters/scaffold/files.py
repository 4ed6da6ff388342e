"""Files that `pcbench new-adapter` writes beside the adapter: known failures, a test and a workflow.

Texts with @NAME@, the library; @MODULE@, a module name made of it; @ADAPTER@, @KNOWN@ and @TEST@, paths from the top of
the repository.  OWNER/pcbench and COMMIT stay for the maintainer to fill in, as in `ci/example-workflow.yml`.
"""

KNOWN_FAILURES = "[]\n"
"""JSON has no comments: the test module says what an entry needs."""

TEST = '''"""Does @NAME@ obey the laws of predictive coding networks?  A test for each law; @MODULE@_adapter.py answers.

    pytest @TEST@                          # -n 2 with pytest-xdist, -k gradient for some laws
    pytest @TEST@ --pcn-profile standard   # more problems; --pcn-seed N for others
    pytest @TEST@ --pcn-python PATH        # by the interpreter that has @NAME@

A law that @NAME@ is known to break goes into @MODULE@-known-failures.json; `law` and `reason` are needed:

    [{"law": "energy.matches-definition", "reason": "the energy lacks the factor 1/2",
      "link": "https://example.org/issues/1", "versions": "<1.3"}]

`versions` are those of the adapter's manifest, all of them if left out.  The law is then expected to fail.  Once it
holds its test fails and asks for the entry to be removed; an entry whose versions have passed is an error.
"""

import pytest

plugin = pytest.importorskip("pcbench.plugin", reason="pcbench is not installed")

# The plugin makes a test of every law; the fixed seed, because a test that fails today shall not have passed by luck.
laws = plugin.Conformance(
    "@MODULE@_adapter.py", known_failures="@MODULE@-known-failures.json", profile="smoke", seed=1
)
'''

WORKFLOW = """\
# Judges @NAME@ by the laws of predictive coding networks; pull requests are also compared with what they change.
#
# Fill in OWNER/pcbench and COMMIT, four times: where pcbench is, at a commit that you trust.  If @NAME@ needs other
# versions of what pcbench needs, give it a virtual environment of its own and `--python PATH` to each command below.
name: pcbench

on:
  push:
    branches: [main, master]
  pull_request:

permissions:
  contents: read

concurrency:
  group: pcbench-${{ github.ref }}
  cancel-in-progress: true # everything here ends in order

jobs:
  laws:
    runs-on: ubuntu-latest
    timeout-minutes: 30
    steps:
      - uses: actions/checkout@v4
      - uses: actions/checkout@v4
        with:
          repository: OWNER/pcbench # CHANGE
          ref: COMMIT # CHANGE
          path: pcbench-checkout
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11" # or later
      - name: Install pcbench
        run: python -m pip install ./pcbench-checkout pytest pytest-xdist
      - name: Install the library # CHANGE if it takes more
        run: if [ -f pyproject.toml ] || [ -f setup.py ]; then python -m pip install .; fi
      - name: The laws, on problems that are new in every run
        run: |
          pcbench check @ADAPTER@ --known-failures @KNOWN@ \\
            --json pcbench.json --markdown pcbench.md
      - name: The laws as tests, on the same problems in every run
        run: python -m pytest @TEST@ -n 2
      - name: Show the report
        if: always()
        run: if [ -f pcbench.md ]; then cat pcbench.md >> "$GITHUB_STEP_SUMMARY"; fi
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: pcbench-laws
          path: pcbench.json
          if-no-files-found: ignore

  gate: # is anything slower, or a margin smaller?  Noise of a shared runner is a warning, not a failure.
    if: github.event_name == 'pull_request'
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0 # both commits are needed
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      - name: Install the library # CHANGE if it takes more
        run: if [ -f pyproject.toml ] || [ -f setup.py ]; then python -m pip install .; fi
      - id: gate
        uses: OWNER/pcbench/ci@COMMIT # CHANGE
        with:
          base: ${{ github.event.pull_request.base.sha }}
          head: ${{ github.event.pull_request.head.sha }}
          implementation: @ADAPTER@
          options: --known-failures @KNOWN@
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: pcbench-gate
          path: |
            ${{ steps.gate.outputs.markdown }}
            ${{ steps.gate.outputs.json }}
          if-no-files-found: ignore
"""
