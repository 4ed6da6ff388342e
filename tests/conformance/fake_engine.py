"""A stand-in for `pcbench.properties` and the laws, for tests of the machinery around them.

Imported both by a test and by the runner processes that it starts; what the laws do is in the environment variable
FAKE_ENGINE, JSON with lists of law ids for `fail`, `fail-where-shown` (by the problem of a known failure), `crash`,
`hang`, `hang-collecting` (in a callback of the garbage collector, as Hypothesis has one) and `raise`, and `slow` in
seconds.
"""

import gc
import json
import math
import os
import signal
import time

import numpy as np

from pcbench.adapters import register as adapters
from pcbench.laws.definition import REGISTRY, Measurement, law
from pcbench.report.evidence import Evidence, Worst

SPEC = adapters.KNOWN["numpy"].spec
PROBLEM = "D=3,N=5,L=4,K=2,B=3,activation=tanh,seed=7"


def measure(subject, problem):
    return Measurement(error=0.0, allowance=1.0)


def register():
    """Replace all laws by these."""
    REGISTRY.clear()
    define("fake.root")
    define("fake.leaf", depends_on=("fake.root",))
    define("fake.other")
    define("fake.residual-free", needs=("time-travel",))
    define("fake.last", depends_on=("fake.other",))


def define(id, needs=(), depends_on=()):
    law(id, statement="S", citation="C", failing_means="M", needs=needs, depends_on=depends_on)(measure)


def judge_group(law, subject, profile, seed, group, first=None):
    orders = json.loads(os.environ.get("FAKE_ENGINE", "{}"))
    time.sleep(orders.get("slow", 0))
    if law.id in orders.get("crash", ()):
        os.kill(os.getpid(), signal.SIGKILL)
    if law.id in orders.get("hang", ()):
        time.sleep(600)
    if law.id in orders.get("hang-collecting", ()):
        gc.callbacks.append(lambda phase, info: time.sleep(0.2 if phase == "start" else 0))
        while True:
            gc.collect()
            time.sleep(0.02)
    if law.id in orders.get("raise", ()):
        raise ZeroDivisionError("a bug in a law")
    if orders.get("print"):
        os.write(1, b"noise that is no event\n")
    # Depends on everything that it may depend on, and on nothing else.
    margin = (hash((seed, group, len(law.id))) % 1000) / 2000
    worst = Worst(margin=margin, error=margin, allowance=1.0, problem=PROBLEM)
    result = {"law": law.id, "group": group, "examples": 8, "shapes": ((3, 5, 4, 2, 3), (1, 1, 2, 1, group + 1))}
    shown = law.id in orders.get("fail-where-shown", ()) and first is not None and first.line() == PROBLEM
    if law.id in orders.get("fail", ()) or shown:
        # What a broken contract gives, and what NumPy puts into details.
        details = {"layer": np.int64(1), "gap": np.float32(0.5), "near": np.bool_(True), "norms": np.ones(2)}
        broken = Worst(margin=math.inf, error=math.inf, allowance=0.0, problem=PROBLEM, details=details)
        return Evidence(**result, outcome="fail", worst=broken, failure=broken, message="too far")
    return Evidence(**result, outcome="pass", worst=worst)


if os.environ.get("FAKE_ENGINE_CHILD"):
    register()
