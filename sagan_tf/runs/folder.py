"""The run folder: its paths, its lock, and what is read from it and written to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sagan_tf.config import Config, config_differences, read_config, save_config
from sagan_tf.data.embedded import KINDS, NAMES
from sagan_tf.errors import UserError, format_size, list_some
from sagan_tf.files.atomic import is_temporary, remove_temporary_files, write_text
from sagan_tf.files.hub import download, hub_name, is_hub_name, output_folder, repository_id
from sagan_tf.files.locks import exclusive
from sagan_tf.files.patterns import pattern_letter
from sagan_tf.files.untrusted import check_kinds
from sagan_tf.generation.saving import saved_record
from sagan_tf.runs.environment import describe_start
from sagan_tf.runs.metrics_log import MetricsLog
from sagan_tf.runs.records import (
    parse_best,
    parse_class_names,
    parse_fingerprint,
    parse_recoveries,
    parse_starts,
    read_record,
)

# Fields that may change when a run resumes; none of them changes the steps made so far. (A decaying learning rate gets
# its new end.) Where the data lie may change because their fingerprint is checked, and the batch statistics of the
# average because nothing that is trained depends on them.
CHANGEABLE_FIELDS = (
    *("run", "training.steps", "training.ema_statistics_interval"),
    *("data.data_dir", "data.manual_dir", "data.download", "data.memory_limit_gib"),
)
CHANGEABLE_SECTIONS = ("hardware", "output", "guard", "evaluation")

_DIFFERENCES_SHOWN = 3


class Run:
    """A run folder.

    `Run.create_or_resume` and `Run.lock` return it locked, for training; `Run.open` without a lock, for reading. The
    lock is released by `close`, or at the end of a `with` block.

    Args:
        path: Path of the folder.
        output_path: Where commands that read the run write by default; None: the folder.

    Attributes:
        path: pathlib.Path of the folder.
        output_path: pathlib.Path.
        source: str, by which a command opens the run: a path, or `hf://owner/name`.
        name: str, the name of the folder, or of a repository or of weights that come with the package.
        metrics_log: `MetricsLog`.
        stopped_by: str, the name of the signal that stopped training in this process before its last step, or None.
        config_path, checkpoints_path, generator_path, best_generator_path, metrics_path, samples_path, attention_path,
            report_path, evaluation_path, tensorboard_path, contact_sheet_path, class_names_path, fingerprint_path,
            recoveries_path, start_from_path, environment_path: pathlib.Paths in the folder.
    """

    def __init__(self, path: str | Path, output_path: str | Path | None = None):
        self.path = Path(path)
        self.output_path = self.path if output_path is None else Path(output_path)
        self.source = str(path)  # what a command opens it by
        self.name = self.output_path.resolve().name
        self.config_path = self.path / "config.yaml"
        self.checkpoints_path = self.path / "checkpoints"
        self.generator_path = self.path / "generator.keras"
        self.best_generator_path = self.path / "best_generator.keras"
        self.metrics_path = self.path / "metrics.jsonl"
        self.samples_path = self.path / "samples"
        self.attention_path = self.path / "attention"
        self.evaluation_path = self.path / "evaluation"
        self.tensorboard_path = self.path / "tensorboard"
        self.report_path = self.path / "report.html"
        self.contact_sheet_path = self.path / "data" / "contact_sheet.png"
        self.class_names_path = self.path / "data" / "class_names.json"
        self.fingerprint_path = self.path / "data" / "fingerprint.json"
        self.recoveries_path = self.path / "recoveries.json"
        self.start_from_path = self.path / "start_from.txt"
        self.environment_path = self.path / "environment.json"
        self.metrics_log = MetricsLog(self.metrics_path, self.path / "unfinished_line.json")
        self.stopped_by: str | None = None
        self._lock = contextlib.ExitStack()

    @classmethod
    def create_or_resume(cls, folder: str | Path, config: Config) -> Run:
        """Locks a run folder as `lock` does, and records the start; arguments and errors as in `lock`."""
        run = cls.lock(folder, config)
        try:
            run.record_start(config)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def lock(cls, folder: str | Path | None, config: Config) -> Run:
        """Makes a run folder, or takes an existing one, and locks it; nothing in it changes.

        Args:
            folder: Path.
            config: `Config` of the run.

        Returns:
            Run, locked.

        Raises:
            UserError: The folder holds another run or other files, another process trains in it, or it is not writable.
        """
        if folder is None:
            raise UserError("`run` is null: name the folder of the run.")
        run = cls(folder)
        run.check_path()
        run._make_folder()
        busy = f"{run.path}: another process is training in this folder. Wait for it, or choose another with --run."
        run._lock.enter_context(exclusive(run.path / ".lock", error=busy))
        try:
            run._check_entries()
            run._check_config(config)
            run._check_generator_alone()
        except BaseException:
            run.close()
            raise
        return run

    def record_start(self, config: Config, is_compiled: bool = False) -> None:
        """Saves the config and on what and by which command the run is started; the caller holds the lock.

        Args:
            config: `Config` of the run.
            is_compiled: Whether XLA compiles the training step.
        """
        save_config(config, self.config_path)
        for folder in (self.checkpoints_path, self.samples_path, self.contact_sheet_path.parent):
            folder.mkdir(exist_ok=True)
        self._write_json(
            self.environment_path, [*self.starts(), describe_start(config.hardware, is_compiled)], indent=2
        )

    @classmethod
    def open(cls, folder: str | Path, output_path: str | Path | None = None) -> Run:
        """Opens an existing run folder without a lock.

        Args:
            folder: Path, or a repository of the Hugging Face Hub, such as `hf://owner/name@v1`, which is downloaded.
            output_path: As for `Run`; by default `./hub/owner/name` for a repository, with its revision.

        Returns:
            Run, not locked.

        Raises:
            UserError: It is not a run folder, or the repository cannot be downloaded or has no generator.
        """
        if is_hub_name(folder):
            run = cls(download(folder), output_path or output_folder(folder))
            run.source, run.name = hub_name(folder), repository_id(folder).partition("/")[2]
            needed = run.config_path, run.generator_path
            advice = f" `sagan push RUN {folder}` makes one."
        else:
            run, advice = cls(folder, output_path), ""
            needed = (run.config_path,)
        for path in needed:
            if not path.is_file():
                raise UserError(f"{folder}: not a run folder; {path.name} is missing.{advice}")
        run._check_entries()
        return run

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the lock."""
        self._lock.close()

    def config(self) -> Config:
        """Reads the `Config` of the run."""
        return read_config(self.config_path)

    def sample_path(self, step: int) -> Path:
        """Path of the sample grid of a step."""
        return self.samples_path / f"step_{step:08d}.png"

    def attention_picture_path(self, step: int) -> Path:
        """Path of the attention image of a step."""
        return self.attention_path / f"step_{step:08d}.png"

    def checkpoint_steps(self) -> list[int]:
        """Lists the steps of the checkpoints, ascending; does not check whether they can be read."""
        names = [path.name for path in self.checkpoints_path.glob("ckpt-*.index")]
        matches = [re.fullmatch(r"ckpt-([0-9]+)\.index", name) for name in names]
        return sorted(int(match[1]) for match in matches if match)

    def checkpoint_path(self, step: int) -> str:
        """Path of a checkpoint as a str, as `tf.train.Checkpoint.restore` takes it."""
        return str(self.checkpoints_path / f"ckpt-{step}")

    def checkpoints(self) -> list[str]:
        """Lists the paths of the checkpoints, newest first."""
        return [self.checkpoint_path(step) for step in reversed(self.checkpoint_steps())]

    def check_generator(self) -> None:
        """Raises UserError if training has not written a generator yet."""
        if not self.generator_path.is_file():
            raise UserError(
                f"{self.generator_path}: there is no generator yet; training writes it with its first checkpoint. "
                f"Continue training with: sagan train --config {shlex.quote(str(self.config_path))}"
            )

    def read_metrics(self) -> list[dict[str, float]]:
        """Reads the metrics: list of dicts of `step` and numbers by name, in the order of the steps."""
        return self.metrics_log.read()

    def class_names(self) -> list[str] | None:
        """Reads the class names, a list of str in the order of the labels; None if there are none."""
        return read_record(self.class_names_path, parse_class_names, "a list of class names")

    def known_class_names(self) -> list[str] | None:
        """As `class_names`, but those of an embedded data set need no file; None in a folder that is not of a run."""
        if not self.config_path.is_file():
            return None
        names, data = self.class_names(), self.config().data
        return list(KINDS) if not names and data.name in NAMES and data.conditional is not False else names

    def save_class_names(self, names: Sequence[str]) -> None:
        """Saves the class names, for tools without access to the data."""
        text = json.dumps(list(names), ensure_ascii=False, indent=0)
        write_text(self.class_names_path, text + "\n")

    def fingerprint(self) -> dict[str, Any] | None:
        """Reads the fingerprint of the data, a dict as in `portable_fingerprint`; None if there is none."""
        return read_record(self.fingerprint_path, parse_fingerprint, "a fingerprint of the data")

    def save_fingerprint(self, fingerprint: dict[str, Any]) -> None:
        """Saves the fingerprint of the data."""
        self._write_json(self.fingerprint_path, fingerprint, indent=0)

    def starts(self) -> list[dict[str, Any]]:
        """Reads on what and by which command the run was started: list of dicts, one per start."""
        return read_record(self.environment_path, parse_starts, "a list of starts") or []

    def generator_step(self) -> int | None:
        """Reads the step of the generator; None if its file does not record it."""
        step = saved_record(self.generator_path).get("step")
        return step if type(step) is int else None

    def best(self) -> dict[str, Any] | None:
        """Reads which generator the online evaluations found best: dict as in `parse_best`, or None."""
        try:
            return parse_best(saved_record(self.best_generator_path))
        except (ValueError, TypeError, KeyError, OverflowError):
            return None

    def recoveries(self) -> list[dict[str, Any]]:
        """Reads the recoveries: list of dicts of `kind`, `step` and `rate_factor`, in order."""
        return read_record(self.recoveries_path, parse_recoveries, "a list of recoveries") or []

    def add_recovery(self, kind: str, step: int, rate_factor: float) -> None:
        """Records a recovery; `rate_factor` multiplies the learning rates, on top of earlier recoveries."""
        recovery = {"kind": kind, "step": step, "rate_factor": rate_factor}
        self._write_json(self.recoveries_path, [*self.recoveries(), recovery], indent=1)

    def remove_unfinished(self) -> None:
        """Removes incomplete files of killed processes; the caller holds the lock."""
        for path in self.checkpoints_path.glob("ckpt-*_temp"):
            # TensorFlow would write through a link.
            path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)
        for folder in (self.path, self.samples_path, self.attention_path, self.contact_sheet_path.parent):
            remove_temporary_files(folder)

    def remove_pictures_after(self, step: int) -> None:
        """Removes sample grids and attention pictures of later steps, which are made again; the caller has the lock."""
        for folder in (self.samples_path, self.attention_path):
            for later, path in pictures_by_step(folder).items():
                if later > step:
                    path.unlink(missing_ok=True)

    def check_space(self, bytes_needed: int) -> None:
        """Raises UserError if the disk has less free space than the checkpoints need."""
        free = shutil.disk_usage(self.path).free
        if free < bytes_needed:
            raise UserError(
                f"{self.path}: the run needs {format_size(bytes_needed)} of disk space for its checkpoints, and "
                f"{format_size(free)} is free. Free some, or choose another folder with --run."
            )

    def _check_entries(self):
        """Raises UserError if there is a pipe or a device where a file is read."""
        pictures = (self.samples_path, self.attention_path, self.contact_sheet_path.parent)
        for folder in (self.path, self.checkpoints_path, self.evaluation_path, self.tensorboard_path, *pictures):
            check_kinds(folder)

    def check_path(self):
        """Raises UserError for a name of the Hub, a `~`, and a path that TensorFlow would take for a pattern."""
        if str(self.path).startswith("hf:"):
            raise UserError(
                f"{self.source}: a run is trained in a folder. Choose one with --run; --training.start_from takes a "
                "repository of the Hub."
            )
        if self.path.parts[:1] == ("~",):  # as in a YAML file, or in `--run=~/runs/pets`
            raise UserError(f"{self.source}: only a shell knows `~`, at the start of a word. Write the whole path.")
        if letter := pattern_letter(self.path):
            raise UserError(
                f"{self.path}: the path of a run folder must not contain `{letter}`, which TensorFlow takes for a "
                "pattern. Choose another with --run."
            )

    def _check_generator_alone(self):
        """Raises UserError if training would replace a generator that no run here has made."""
        # By a training here, which may have been killed.
        began = (self.metrics_path, self.metrics_log.unfinished_path, self.start_from_path)
        has_begun = bool(self.checkpoint_steps()) or any(path.exists() for path in began)
        if self.generator_path.exists() and not has_begun:
            raise UserError(
                f"{self.path}: holds a generator, which training would replace, and no checkpoint to resume from. "
                f"Choose another folder with --run; --training.start_from {self.path} starts from its weights."
            )

    def _make_folder(self):
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = os.listdir(self.path)
            foreign = [name for name in names if not name.startswith(".lock") and not is_temporary(name)]
            if foreign and not self.config_path.exists():
                raise UserError(
                    f"{self.path}: not a run folder; it holds other files and no config.yaml. Choose a new one with "
                    "--run."
                )
            # os.access grants root everything, even on read-only disks.
            tempfile.TemporaryFile(dir=self.path).close()
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"{self.path}: a file is in the way. Choose another folder with --run.") from None
        except OSError as error:
            raise UserError(
                f"{self.path}: the run folder cannot be written: {error.strerror}. Choose another with --run."
            ) from None

    def _check_config(self, config):
        """Raises UserError if the folder holds a run with a config that differs in more than changeable fields."""
        if not self.config_path.exists():
            return
        differences = [line for line in config_differences(self.config(), config) if not _is_changeable(line)]
        if not differences:
            return
        shown = list_some(differences, _DIFFERENCES_SHOWN, "; ")
        raise UserError(
            f"{self.path}: the folder holds a run with another config ({shown}). Choose another folder with "
            f"--run, or continue with the old config: --config {shlex.quote(str(self.config_path))}"
        )

    @staticmethod
    def _write_json(path, value, indent=None):
        write_text(path, json.dumps(value, indent=indent) + "\n")


def _is_changeable(difference):
    field = difference.partition(":")[0]
    return field in CHANGEABLE_FIELDS or field.partition(".")[0] in CHANGEABLE_SECTIONS


def pictures_by_step(folder: Path) -> dict[int, Path]:
    """Lists the sample grids or attention pictures in a folder, by step."""
    matches = ((re.fullmatch(r"step_([0-9]+)\.png", path.name), path) for path in sorted(folder.glob("step_*.png")))
    return {int(match[1]): path for match, path in matches if match and path.is_file()}
