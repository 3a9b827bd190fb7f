"""Runs the studies of docs/results.md: trains what is missing, and resumes what was interrupted.

    python benchmarks/studies --out DIR                 all studies, in their order
    python benchmarks/studies --out DIR STUDY ...       these
    python benchmarks/studies --out DIR --jobs 2        two runs at a time, each on half of the cores
    python benchmarks/studies --out DIR --list          what is done
    python benchmarks/studies --out DIR --report        writes tables and pictures of what is done, without training

DIR/STUDY/ARM/SEED holds a run; DIR/log.jsonl says when each was worked on. Ctrl-C or SIGTERM saves and stops.
Small networks leave two threads of one run idle in turn: two runs of one thread each make more steps in all.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from datetime import datetime
from pathlib import Path

from definitions import STUDIES

from sagan_tf.errors import UserError, one_line_errors
from sagan_tf.files.locks import exclusive

STOPPED = (130, 143)
RUN_ONE = Path(__file__).resolve().with_name("run_one.py")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(study.name for study in STUDIES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, kept between starts")
    parser.add_argument("--list", action="store_true", help="print what is done and exit")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: 1)")
    parser.add_argument("--report", action="store_true", help="write tables and pictures of what is done and exit")
    options = parser.parse_args()
    if options.jobs < 1:
        parser.error(f"--jobs must be at least 1. Received: {options.jobs}")
    with one_line_errors("The same command continues."):
        unknown = set(options.studies) - {study.name for study in STUDIES}
        if unknown:
            raise UserError(f"there is no study `{min(unknown)}`; --help lists them.")
        chosen = [study for study in STUDIES if not options.studies or study.name in options.studies]
        if options.list:
            print_state(chosen, options.out)
            return
        if options.report:
            sys.path.append(str(RUN_ONE.parents[1]))  # `reporting`
            from report import write_report

            for study in chosen:
                write_report(study, options.out / study.name)
            return
        options.out.mkdir(parents=True, exist_ok=True)
        busy = f"{options.out}: another process runs the studies there."
        with exclusive(options.out / ".lock", error=busy):
            sys.exit(run_missing(chosen, options.out, options.jobs))


def folder_of(out, study, arm, seed):
    return out / study.name / arm / str(seed)


def is_done(folder):
    return (folder / "result.json").exists()


def print_state(studies, out):
    for study in studies:
        done = sum(is_done(folder_of(out, study, arm, seed)) for arm, seed in study.runs())
        print(f"{study.name}: {done} of {len(study.runs())} runs. {study.question}")


def run_missing(studies, out, jobs):
    """Runs what is missing, `jobs` runs at a time; returns the exit code."""
    all_runs = [(study, *run) for study in studies for run in study.runs()]
    missing = [run for run in all_runs if not is_done(folder_of(out, *run))]
    print(f"{len(all_runs) - len(missing)} of {len(all_runs)} runs are done, in {out}", flush=True)
    waiting, running, code = deque(enumerate(missing, start=1)), [], 0

    def stop(number, frame):
        waiting.clear()
        for started in running:
            started.process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    while waiting or running:
        while waiting and len(running) < jobs:
            number, run = waiting.popleft()
            print(f"{number} of {len(missing)}: {run[0].name}, {run[1]}, seed {run[2]}", flush=True)
            running.append(StartedRun(*run, out, jobs))
        time.sleep(0.5)
        for started in [started for started in running if started.process.poll() is not None]:
            running.remove(started)
            own_code = started.finish(out)
            if own_code:
                stop(None, None)
            code = code or own_code
    return code


class StartedRun:
    """A run in a process of its own."""

    def __init__(self, study, arm, seed, out, jobs):
        self.run = {"study": study.name, "arm": arm, "seed": seed, "jobs": jobs}
        self.began, self.monotonic = datetime.now().astimezone(), time.monotonic()
        self.folder = folder_of(out, study, arm, seed)
        threads = str(max(1, (os.cpu_count() or 1) // jobs))
        shared = {} if jobs == 1 else {"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
        # In a session of its own: Ctrl-C would reach it twice, and a second signal ends a run unsaved.
        self.process = subprocess.Popen(
            [sys.executable, RUN_ONE, study.name, arm, str(seed), self.folder],
            env={**os.environ, **shared}, start_new_session=True,
        )  # fmt: skip

    def finish(self, out):
        """Writes a line to the log; returns the exit code."""
        seconds, code = round(time.monotonic() - self.monotonic), self.process.returncode
        entry = {**self.run, "began": self.began.isoformat(timespec="seconds"), "seconds": seconds, "code": code}
        with open(out / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        if code and code not in STOPPED:
            print(f"error: {self.folder}: the run failed with code {code}; its message is above.", file=sys.stderr)
        return code


if __name__ == "__main__":
    main()
