"""Runs the studies of docs/results.md: trains what is missing, and resumes what was interrupted.

    python benchmarks/studies --out DIR                 all studies, in their order
    python benchmarks/studies --out DIR STUDY ...       these
    python benchmarks/studies --out DIR --list          what is done

DIR/STUDY/ARM/SEED holds a run; DIR/log.jsonl says when each was worked on. Ctrl-C or SIGTERM saves and stops.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from definitions import STUDIES

from sagan_tf.errors import UserError, one_line_errors
from sagan_tf.files.locks import exclusive

STOPPED = (130, 143)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(study.name for study in STUDIES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, kept between starts")
    parser.add_argument("--list", action="store_true", help="print what is done and exit")
    options = parser.parse_args()
    with one_line_errors("The same command continues."):
        unknown = set(options.studies) - {study.name for study in STUDIES}
        if unknown:
            raise UserError(f"there is no study `{min(unknown)}`; --help lists them.")
        chosen = [study for study in STUDIES if not options.studies or study.name in options.studies]
        if options.list:
            print_state(chosen, options.out)
            return
        options.out.mkdir(parents=True, exist_ok=True)
        busy = f"{options.out}: another process runs the studies there."
        with exclusive(options.out / ".lock", error=busy):
            sys.exit(run_missing(chosen, options.out))


def folder_of(out, study, arm, seed):
    return out / study.name / arm / str(seed)


def is_done(folder):
    return (folder / "result.json").exists()


def print_state(studies, out):
    for study in studies:
        done = sum(is_done(folder_of(out, study, arm, seed)) for arm, seed in study.runs())
        print(f"{study.name}: {done} of {len(study.runs())} runs. {study.question}")


def run_missing(studies, out):
    """Runs what is missing, one run at a time; returns the exit code."""
    all_runs = [(study, *run) for study in studies for run in study.runs()]
    missing = [run for run in all_runs if not is_done(folder_of(out, *run))]
    print(f"{len(all_runs) - len(missing)} of {len(all_runs)} runs are done, in {out}", flush=True)
    for number, run in enumerate(missing, start=1):
        print(f"{number} of {len(missing)}: {run[0].name}, {run[1]}, seed {run[2]}", flush=True)
        code = run_one(*run, out)
        if code:
            return code
    return 0


def run_one(study, arm, seed, out):
    folder = folder_of(out, study, arm, seed)
    script = Path(__file__).with_name("run_one.py")
    began, monotonic = datetime.now().astimezone().isoformat(timespec="seconds"), time.monotonic()
    # In a session of its own: Ctrl-C would reach it twice, and a second signal ends a run unsaved.
    process = subprocess.Popen([sys.executable, script, study.name, arm, str(seed), folder], start_new_session=True)

    def stop(number, frame):
        process.send_signal(signal.SIGTERM)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    code = process.wait()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    entry = {
        "study": study.name,
        "arm": arm,
        "seed": seed,
        "began": began,
        "seconds": round(time.monotonic() - monotonic),
        "code": code,
    }
    with open(out / "log.jsonl", "a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")
    if code and code not in STOPPED:
        raise UserError(f"{folder}: the run failed with code {code}; its message is above.")
    return code


if __name__ == "__main__":
    main()
