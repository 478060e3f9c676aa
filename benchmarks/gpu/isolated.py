"""Run a part in a process of its own, which a crash or the time limit ends."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from multiprocessing.connection import Connection

from benchmarks.gpu.findings import Check, Outcome
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.parts import CPU_LIMIT, Part

PACKAGE = __package__ or ""
#: Seconds in which a process may remove its files after its last finding.
GRACE = 10


def preload(parts: Iterable[Part]) -> None:
    """Import the modules of parts once, in a server from which their processes are forked.

    No module may initialise CUDA when it is imported, because CUDA does not survive a fork.
    """
    modules = [f"{PACKAGE}.{part.module}" for part in parts]
    multiprocessing.get_context("forkserver").set_forkserver_preload(modules)


def run_part(part: Part, inputs: Inputs) -> Outcome:
    """Run a part until it ends, or until its time limit, and return what it has reported."""
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    outcome = Outcome()
    limit = CPU_LIMIT if inputs.on_cpu else part.limit
    process = context.Process(target=_measure, args=(part.module, inputs, sender))
    start = time.monotonic()
    process.start()
    sender.close()
    try:
        while (remaining := start + limit - time.monotonic()) > 0 and receiver.poll(remaining):
            finding = receiver.recv()
            if finding is None:
                process.join(GRACE)
                break
            outcome.findings.append(finding)
        else:
            outcome.findings.append(Check(f"did not end within {limit} s", False))
    except EOFError:
        process.join()
        outcome.findings.append(Check(f"its process died (status {process.exitcode})", False))
    finally:
        assert process.pid is not None
        with suppress(ProcessLookupError):  # before it has a group of its own, it has no workers
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        receiver.close()
    outcome.seconds = time.monotonic() - start
    return outcome


def _measure(module: str, inputs: Inputs, sender: Connection) -> None:
    """Send the findings of a part, then None."""
    os.setsid()
    try:
        for finding in importlib.import_module(f"{PACKAGE}.{module}").measure(inputs):
            sender.send(finding)
    except Exception as error:  # of any kind: it is what is looked for
        traceback.print_exc()
        message = str(error).strip().split("\n")[0]
        sender.send(Check(f"{type(error).__name__}: {message}", False))
    sender.send(None)
