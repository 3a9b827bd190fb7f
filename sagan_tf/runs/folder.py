"""The run folder: what lies where in it. It is opened and written here; other modules get paths and functions."""

import contextlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from sagan_tf.config import config_differences, read_config, save_config
from sagan_tf.errors import UserError
from sagan_tf.files.atomic import is_temporary, remove_temporary_files, write_text
from sagan_tf.files.locks import exclusive
from sagan_tf.files.untrusted import read_json, read_text
from sagan_tf.runs.environment import describe_environment
from sagan_tf.runs.metrics_log import is_metrics, json_line

# What a run may change when it goes on. None of it changes the game that was played so far: where the folder lies,
# what is written and when, the machine, and how far to train. (A decaying learning rate gets its new end.)
CHANGEABLE = ("run", "training.steps")
CHANGEABLE_SECTIONS = ("hardware", "output", "guard", "evaluation")

_DIFFERENCES_SHOWN = 3


class Run:
    """A run folder. Made by `Run.create_or_resume`, to train, or `Run.open`, to look.

    As a context manager it gives up the lock of `create_or_resume` at the end.

    Args:
        path: The folder.

    Attributes:
        path: pathlib.Path of the folder.
        config_path, checkpoints_path, generator_path, best_generator_path, best_path, metrics_path, samples_path,
            attention_path, report_path, evaluation_path, tensorboard_path, contact_sheet_path, class_names_path,
            recoveries_path, environment_path: pathlib.Paths of what is in it.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.config_path = self.path / "config.yaml"
        self.checkpoints_path = self.path / "checkpoints"
        self.generator_path = self.path / "generator.keras"
        self.best_generator_path = self.path / "best_generator.keras"
        self.best_path = self.path / "best_generator.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.samples_path = self.path / "samples"
        self.attention_path = self.path / "attention"
        self.evaluation_path = self.path / "evaluation"
        self.tensorboard_path = self.path / "tensorboard"
        self.report_path = self.path / "report.html"
        self.contact_sheet_path = self.path / "data" / "contact_sheet.png"
        self.class_names_path = self.path / "data" / "class_names.json"
        self.unfinished_line_path = self.path / "unfinished_line.json"
        self.recoveries_path = self.path / "recoveries.json"
        self.environment_path = self.path / "environment.json"
        self._lock = contextlib.ExitStack()

    @classmethod
    def create_or_resume(cls, folder, config):
        """Makes a run folder, or takes up the one of an earlier process, and locks it.

        Args:
            folder: Path.
            config: `Config` of the run; saved in the folder.

        Returns:
            Run, locked until `close`.

        Raises:
            UserError: The folder holds another run or other things, another process trains in it, or it cannot be
                written.
        """
        if folder is None:
            raise UserError("`run` is null: name the folder of the run.")
        run = cls(folder)
        run._refuse_pattern()
        run._make_folder()
        run._acquire()
        try:
            run._refuse_another_config(config)
            save_config(config, run.config_path)
            for part in (run.checkpoints_path, run.samples_path, run.contact_sheet_path.parent):
                part.mkdir(exist_ok=True)
            run._record_environment()
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def open(cls, folder):
        """Opens an existing run folder, without a lock.

        Args:
            folder: Path.

        Returns:
            Run.

        Raises:
            UserError: It is no run folder.
        """
        run = cls(folder)
        if not run.config_path.is_file():
            raise UserError(f"{run.path}: this is no run folder; {run.config_path.name} is missing.")
        return run

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self):
        """Gives up the lock, so that another process may train here."""
        self._lock.close()

    def config(self):
        """Reads the config of the run.

        Returns:
            Config.

        Raises:
            UserError: The file is not there or cannot be used.
        """
        return read_config(self.config_path)

    def sample_path(self, step):
        """Names the picture of samples after a step.

        Args:
            step: int >= 0.

        Returns:
            pathlib.Path.
        """
        return self.samples_path / f"step_{step:08d}.png"

    def attention_picture_path(self, step):
        """Names the picture of attention maps after a step.

        Args:
            step: int >= 0.

        Returns:
            pathlib.Path.
        """
        return self.attention_path / f"step_{step:08d}.png"

    def save_class_names(self, names):
        """Keeps the names of the classes, so that tools that have no data at hand can say them.

        Args:
            names: list of str in the order of the labels.
        """
        write_text(self.class_names_path, json.dumps(list(names), ensure_ascii=False, indent=0) + "\n")

    def class_names(self):
        """Reads the names of the classes.

        Returns:
            list of str in the order of the labels; None where none were saved.

        Raises:
            UserError: The file holds something else.
        """
        if not self.class_names_path.is_file():
            return None
        names = read_json(self.class_names_path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{self.class_names_path}: this is no list of names any more. Move it away.")
        return names

    def starts(self):
        """Reads on what, and by what command, the run was started.

        Returns:
            list of dicts of JSON values, one a start; empty where nothing was recorded.

        Raises:
            UserError: The file holds something else.
        """
        if not self.environment_path.is_file():
            return []
        found = read_json(self.environment_path)
        if not isinstance(found, list) or not all(isinstance(start, dict) for start in found):
            raise UserError(f"{self.environment_path}: this is no list of starts any more. Move it away.")
        return found

    def best(self):
        """Reads which generator the evaluations during training found best.

        Returns:
            dict with `step`, `metric` and `value`; None where none was evaluated.

        Raises:
            UserError: The file holds something else.
        """
        if not self.best_path.is_file() or not self.best_generator_path.is_file():
            return None
        found = read_json(self.best_path)
        try:
            return {"step": int(found["step"]), "metric": str(found["metric"]), "value": float(found["value"])}
        except (ValueError, TypeError, KeyError, OverflowError):
            raise UserError(f"{self.best_path}: this does not say which generator is best any more.") from None

    def save_best(self, found):
        """Records which generator is best.

        Args:
            found: dict with `step`, `metric` and `value`.
        """
        write_text(self.best_path, json.dumps(found) + "\n")

    def recoveries(self):
        """Reads how often the run went back to a checkpoint because training went wrong.

        Returns:
            list of dicts, in order, each with `kind`, `step` and `rate_factor`.

        Raises:
            UserError: The file holds something else.
        """
        if not self.recoveries_path.is_file():
            return []
        try:
            found = [{**one, "rate_factor": float(one["rate_factor"])} for one in read_json(self.recoveries_path)]
        except (ValueError, TypeError, KeyError, OverflowError):
            found = None
        if found is None or not all(0 < one["rate_factor"] <= 1 for one in found):
            raise UserError(f"{self.recoveries_path}: this is no list of recoveries any more.")
        return found

    def add_recovery(self, kind, step, rate_factor):
        """Records that the run goes back.

        Args:
            kind: str, what was wrong.
            step: int, at which it was seen.
            rate_factor: float, what the learning rates are multiplied by from now on, on top of earlier ones.
        """
        new = {"kind": kind, "step": step, "rate_factor": rate_factor}
        write_text(self.recoveries_path, json.dumps([*self.recoveries(), new], indent=1) + "\n")

    def checkpoints(self):
        """Lists the checkpoints, the newest first, as they lie in the folder; whether they are whole is not looked at.

        Returns:
            list of str, paths as `tf.train.Checkpoint.restore` takes them.
        """
        names = [path.name for path in self.checkpoints_path.glob("ckpt-*.index")]
        found = [re.fullmatch(r"ckpt-([0-9]+)\.index", name) for name in names]
        steps = sorted((int(match[1]) for match in found if match), reverse=True)
        return [str(self.checkpoints_path / f"ckpt-{step}") for step in steps]

    def append_metrics(self, metrics):
        """Adds a line to the metrics file; it is on the disk when this returns.

        Args:
            metrics: dict, `step` and named numbers. Strict JSON knows no NaN or infinity; they become null.
        """
        with open(self.metrics_path, "a", encoding="utf-8") as file:
            file.write(json_line(metrics))
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self):
        """Reads the metrics file. A last line that a killed process left unfinished is passed over.

        Returns:
            list of dicts, in the order of the steps; empty where there is no file.

        Raises:
            UserError: A line is not JSON.
        """
        return [json.loads(line) for line in self._metrics_lines()]

    def truncate_metrics_after(self, step):
        """Takes back the lines after a step, which a resumed run writes again. The file changes at once or not at all.

        Args:
            step: int, the last step that is kept.
        """
        if not self.metrics_path.exists():
            return
        kept = [line for line in self._metrics_lines() if json.loads(line)["step"] <= step]
        write_text(self.metrics_path, "".join(line + "\n" for line in kept))

    def remove_unfinished(self):
        """Removes what processes that were killed in the middle of a file have left; the caller holds the lock."""
        for path in self.checkpoints_path.glob("ckpt-*_temp"):
            shutil.rmtree(path, ignore_errors=True)
        for folder in (self.path, self.samples_path, self.contact_sheet_path.parent):
            remove_temporary_files(folder)

    def check_space(self, bytes_needed):
        """Refuses a disk that is too full.

        Args:
            bytes_needed: int, bytes that the run is going to write.

        Raises:
            UserError: Less is free.
        """
        free = shutil.disk_usage(self.path).free
        if free < bytes_needed:
            raise UserError(
                f"{self.path}: the run needs {_gib(bytes_needed)} of disk for its checkpoints, and {_gib(free)} is "
                "free. Free some, or choose another folder with --run."
            )

    def _make_folder(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = os.listdir(self.path)
            foreign = [name for name in names if not name.startswith(".lock") and not is_temporary(name)]
            if foreign and not self.config_path.exists():
                raise UserError(
                    f"{self.path}: the folder holds other things and no config.yaml, so it is no run folder. "
                    "Choose a new one with --run."
                )
            # os.access says yes to root on read-only disks; only writing tells.
            tempfile.TemporaryFile(dir=self.path).close()
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{self.path}: a file lies where the run folder goes. Choose another with --run.") from None
        except OSError as error:
            raise UserError(
                f"{self.path}: the run folder cannot be written: {error.strerror}. Choose another with --run."
            ) from None

    def _refuse_pattern(self):
        """Refuses a path that TensorFlow, which looks for checkpoints by pattern, would not find or find twice."""
        found = [letter for letter in "*?[" + "\\" * (os.sep != "\\") if letter in str(self.path)]
        if found:
            raise UserError(
                f"{self.path}: the name of a run folder must not hold `{found[0]}`; TensorFlow takes it for a pattern "
                "and would not find the checkpoints again. Choose another with --run."
            )

    def _acquire(self):
        error = f"{self.path}: another process is training in this folder. Wait for it, or choose another with --run."
        self._lock.enter_context(exclusive(self.path / ".lock", error=error))

    def _refuse_another_config(self, config):
        if not self.config_path.exists():
            return
        differences = [line for line in config_differences(self.config(), config) if not _is_changeable(line)]
        if not differences:
            return
        more = len(differences) - _DIFFERENCES_SHOWN
        shown = differences[:_DIFFERENCES_SHOWN] + ([f"{more} more"] if more > 0 else [])
        raise UserError(
            f"{self.path}: the folder holds a run with another config ({'; '.join(shown)}). Choose another folder with "
            f"--run, or go on with the old config: --config {self.config_path}"
        )

    def _record_environment(self):
        starts = [*self.starts(), describe_environment()]
        write_text(self.environment_path, json.dumps(starts, indent=2) + "\n")

    def _metrics_lines(self):
        if not self.metrics_path.exists():
            return []
        *lines, unfinished = read_text(self.metrics_path).split("\n")
        for number, line in enumerate(lines, start=1):
            if not is_metrics(line):
                raise UserError(f"{self.metrics_path}, line {number}: this is no line of metrics. Take it out.")
        return lines


def _is_changeable(difference):
    key = difference.partition(":")[0]
    return key in CHANGEABLE or key.partition(".")[0] in CHANGEABLE_SECTIONS


def _gib(size):
    return f"{size / 2**30:.1f} GiB"
