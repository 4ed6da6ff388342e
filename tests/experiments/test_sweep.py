"""Sweeps: what is on disk after every kind of end, and that a second call does only what is left."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from io import StringIO
from multiprocessing import get_context

import numpy as np
import pytest
from rich.console import Console

from pcbench.errors import UsageError
from pcbench.experiments.sweep import failures_path, journal_path, run_sweep
from pcbench.output.display import Lines, Silent, Terminal
from pcbench.output.table import read_rows, write_rows

# Other tests of the same process may have started JAX's threads, after which no process may be forked.
PROCESSES = partial(ProcessPoolExecutor, mp_context=get_context("spawn"))
RAN = []


def square(point):
    RAN.append(point["n"])
    return [{"n": point["n"], "square": np.float64(point["n"] ** 2)}]


def fail_at_two(point):
    RAN.append(point["n"])
    if point["n"] == 2:
        raise ZeroDivisionError("two")
    return [{"n": point["n"]}]


def ragged(point):
    return [{"n": point["n"], f"c{point['n']}": 0.5}] * 2


def interrupt_at_two(point):
    RAN.append(point["n"])
    if point["n"] == 2:
        raise KeyboardInterrupt
    return [{"n": point["n"]}]


def die_at_two(point):
    if point["n"] == 2:
        os._exit(9)
    return [{"n": point["n"]}]


@pytest.fixture(autouse=True)
def _forget():
    RAN.clear()


def grid(count):
    return [{"n": n} for n in range(count)]


class Recorder(Silent):
    def __init__(self):
        self.events = []

    def progress(self, done, total, what=""):
        self.events.append((done, total))

    def show_current(self, slot, text):
        self.events.append(text)

    def close(self):
        self.events.append("finished")


def test_rows_come_back_and_go_to_the_file(tmp_path):
    """If this fails, the table on disk is not what was measured."""
    seen = Recorder()
    rows = run_sweep(square, [*grid(3), {"n": 1}], tmp_path / "a.csv", display=seen)
    assert rows == [{"n": 0, "square": 0.0}, {"n": 1, "square": 1.0}, {"n": 2, "square": 4.0}]
    assert read_rows(tmp_path / "a.csv") == rows
    assert (tmp_path / "a.csv").read_text() == "n,square\n0,0.0\n1,1.0\n2,4.0\n"
    assert RAN == [0, 1, 2]  # the second {"n": 1} is the same point
    assert seen.events == [(0, 3), (1, 3), "n=0", (2, 3), "n=1", (3, 3), "n=2", "finished"]


def test_a_second_call_runs_new_points_only(tmp_path):
    """If this fails, resuming repeats work, or keeps rows of points that this sweep does not have."""
    path = tmp_path / "a.csv"
    run_sweep(square, grid(3), path)
    RAN.clear()
    seen = Recorder()
    rows = run_sweep(square, [{"n": 4}, {"n": 2}, {"n": 1}], path, display=seen)
    assert RAN == [4]
    assert [row["n"] for row in rows] == [4, 2, 1]
    assert read_rows(path) == rows
    assert seen.events == [(2, 3), (3, 3), "n=4", "finished"]


def test_another_function_is_other_work(tmp_path):
    """If this fails, rows of one measurement are taken for those of another."""
    run_sweep(square, grid(2), tmp_path / "a.csv")
    RAN.clear()
    assert run_sweep(fail_at_two, grid(2), tmp_path / "a.csv") == [{"n": 0}, {"n": 1}]
    assert RAN == [0, 1]


def test_a_failing_point_is_recorded_and_runs_again(tmp_path):
    """If this fails, one bad point costs the whole sweep, or is forgotten."""
    path = tmp_path / "a.csv"
    assert [row["n"] for row in run_sweep(fail_at_two, grid(4), path)] == [0, 1, 3]
    (failure,) = json.loads(failures_path(path).read_text())
    assert failure["point"] == {"n": 2}
    assert failure["error"] == "ZeroDivisionError: two"
    assert "fail_at_two" in failure["traceback"]
    RAN.clear()
    run_sweep(fail_at_two, grid(4), path)
    assert RAN == [2]
    run_sweep(fail_at_two, [{"n": 1}], path)
    assert not failures_path(path).exists()


@pytest.mark.parametrize("bad", [[{"n": [1]}], [{1: 2}], 7, [{"n": 1j}]])
def test_rows_that_no_table_can_hold_are_a_failure_of_their_point(tmp_path, bad):
    """If this fails, a measurement that returns nonsense breaks the file."""
    rows = run_sweep(lambda point: bad if point["n"] else [{"n": 0}], grid(2), tmp_path / "a.csv")
    assert rows == [{"n": 0}]
    assert len(json.loads(failures_path(tmp_path / "a.csv").read_text())) == 1


def test_columns_are_the_union_of_the_keys(tmp_path):
    """If this fails, a row with a new key shifts or loses cells."""
    rows = run_sweep(ragged, grid(3), tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "n,c0,c1,c2"
    assert read_rows(tmp_path / "a.csv") == rows
    assert len(rows) == 6


def test_the_file_is_complete_after_every_point(tmp_path):
    """If this fails, whoever reads the table while the sweep runs finds a broken one."""
    path, lengths = tmp_path / "a.csv", []

    class Reader(Silent):
        def show_current(self, slot, text):
            lengths.append(len(read_rows(path)))

    run_sweep(ragged, grid(3), path, display=Reader())
    assert lengths == [2, 4, 6]


def test_special_values_survive(tmp_path):
    """If this fails, resumed rows differ from fresh ones."""
    values = {"i": 3, "f": 0.1 + 0.2, "nan": float("nan"), "inf": float("inf"), "s": 'a,"b"\n', "t": True, "none": None}
    fresh = run_sweep(lambda point: [values], grid(1), tmp_path / "a.csv")
    (read,) = read_rows(tmp_path / "a.csv")
    np.testing.assert_equal(read, {k: v for k, v in values.items() if v is not None})
    np.testing.assert_equal(fresh, [values])


def test_interruption_keeps_what_is_done(tmp_path):
    """If this fails, Ctrl-C loses finished points or is swallowed."""
    path, seen = tmp_path / "a.csv", Recorder()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(interrupt_at_two, grid(4), path, display=seen)
    assert read_rows(path) == [{"n": 0}, {"n": 1}]
    assert seen.events[-1] == "finished"
    RAN.clear()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(interrupt_at_two, grid(4), path)
    assert RAN == [2]


def test_interruption_cancels_what_has_not_begun(tmp_path):
    """If this fails, Ctrl-C waits for the whole sweep."""
    release, begun = threading.Event(), []

    def wait(point):
        begun.append(point["n"])
        if point["n"]:
            release.wait()
        return []

    class Interrupting(Silent):
        def show_current(self, slot, text):
            raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as executor:
        try:
            with pytest.raises(KeyboardInterrupt):
                run_sweep(wait, grid(50), tmp_path / "a.csv", executor=executor, display=Interrupting())
        finally:
            release.set()
    assert begun in ([0], [0, 1])  # one worker: it may have begun the next point, never the one after


CHILD = textwrap.dedent("""
    import os, sys, time
    sys.path.insert(0, os.path.dirname(sys.argv[0]))
    from pcbench.experiments.sweep import run_sweep

    def slow(point):
        with open(sys.argv[2], "a") as file:
            file.write(f"{point['n']}\\n")
        if point["n"] == 3 and sys.argv[3] == "die":
            os.kill(os.getpid(), 9)
        return [{"n": point["n"], "text": "x" * 50}]

    print(len(run_sweep(slow, [{"n": n} for n in range(6)], sys.argv[1])))
""")


def test_kill_dash_nine_and_torn_files(tmp_path):
    """If this fails, a killed sweep has to be repaired by hand or started anew."""
    script, path, ran = tmp_path / "child.py", tmp_path / "out" / "a.csv", tmp_path / "ran"
    script.write_text(CHILD)
    command = [sys.executable, str(script), str(path), str(ran)]
    assert subprocess.run([*command, "die"], check=False).returncode == -signal.SIGKILL
    assert [row["n"] for row in read_rows(path)] == [0, 1, 2]
    # As if the machine had stopped in the middle of both writes.
    journal = journal_path(path)
    journal.write_bytes(journal.read_bytes()[:-20])
    path.write_bytes(path.read_bytes()[:-20])
    done = subprocess.run([*command, "live"], check=True, capture_output=True, text=True)
    assert done.stdout == "6\n"
    assert [row["n"] for row in read_rows(path)] == list(range(6))
    assert ran.read_text().split() == ["0", "1", "2", "3", "2", "3", "4", "5"]  # 2 was torn, 3 died
    assert all(json.loads(line) for line in journal.read_text().splitlines())


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, PROCESSES], ids=["threads", "processes"])
def test_executors_give_the_same_table(tmp_path, pool):
    """If this fails, the table depends on where the points ran or on which came first."""
    with pool(2) as executor:
        rows = run_sweep(fail_at_two, grid(12), tmp_path / "a.csv", executor=executor)
        executor.submit(len, ()).result()  # still open
    assert rows == [{"n": n} for n in range(12) if n != 2]
    assert read_rows(tmp_path / "a.csv") == rows


def test_a_worker_that_dies_is_a_failure(tmp_path):
    """If this fails, a worker killed for its memory ends the sweep with a traceback and no record."""
    with PROCESSES(1) as executor:
        run_sweep(die_at_two, grid(4), tmp_path / "a.csv", executor=executor)
    failures = json.loads(failures_path(tmp_path / "a.csv").read_text())
    assert {"n": 2} in [failure["point"] for failure in failures]
    assert all("BrokenProcessPool" in failure["error"] for failure in failures)
    rest = [point for point in grid(4) if point["n"] != 2]
    assert run_sweep(die_at_two, rest, tmp_path / "a.csv") == rest


@pytest.mark.filterwarnings("default")  # Dask's own
def test_dask_carries_a_sweep(tmp_path):
    """If this fails, sweeps do not run on a cluster as the command line says."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        rows = run_sweep(fail_at_two, grid(6), tmp_path / "a.csv", executor=client.get_executor())
    assert rows == [{"n": n} for n in range(6) if n != 2]
    assert len(json.loads(failures_path(tmp_path / "a.csv").read_text())) == 1


def test_two_sweeps_cannot_share_a_file(tmp_path):
    """If this fails, two runs overwrite each other's rows."""

    def sweep_again(point):
        with pytest.raises(UsageError, match="in use by another sweep"):
            run_sweep(square, grid(1), tmp_path / "a.csv")
        return [{"refused": True}]

    assert run_sweep(sweep_again, grid(1), tmp_path / "a.csv") == [{"refused": True}]


def test_points_are_json_and_places_can_be_written(tmp_path):
    """If this fails, a sweep that cannot be resumed or recorded starts all the same."""
    with pytest.raises(UsageError, match="plain JSON values"):
        run_sweep(square, [{"n": object()}], tmp_path / "a.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another directory"):
        run_sweep(square, grid(1), tmp_path / "file" / "a.csv")


def test_tables_that_are_none_are_refused(tmp_path):
    """If this fails, a figure is drawn from a file that somebody broke."""
    with pytest.raises(UsageError, match="run the sweep that writes it"):
        read_rows(tmp_path / "absent.csv")
    (tmp_path / "a.csv").write_text("a,b\n1\n")
    with pytest.raises(UsageError, match="unequal length"):
        read_rows(tmp_path / "a.csv")
    write_rows(tmp_path / "a.csv", [{"a": 1}, {"b": "x"}])
    assert read_rows(tmp_path / "a.csv") == [{"a": 1}, {"b": "x"}]


def test_few_plain_lines_in_a_pipe(tmp_path):
    """If this fails, logs fill with a line for every point or with control characters."""
    text = StringIO()
    run_sweep(square, grid(200), tmp_path / "a.csv", display=Lines(Console(file=text, force_terminal=False)))
    lines = text.getvalue().splitlines()
    assert 10 < len(lines) < 40
    assert lines[0] == "points: 200 points"
    assert lines[-1].startswith("[200/200] n=199; 0:")
    assert "left" in lines[5]
    assert "\x1b" not in text.getvalue()


def test_the_bar_on_a_terminal_counts(tmp_path):
    """If this fails, the bar is wrong or stays on the screen."""
    text = StringIO()
    terminal = Terminal(Console(file=text, force_terminal=True, width=100, _environ={}))
    run_sweep(square, grid(5), tmp_path / "a.csv", display=terminal, name="widths")
    assert "widths" in text.getvalue()
    assert "5/5" in text.getvalue()
    assert "n=4" in text.getvalue()
