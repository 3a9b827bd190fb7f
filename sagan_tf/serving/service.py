"""The models of a folder: loads and unloads versions, and answers the requests of both protocols."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
import time
from typing import NamedTuple

from sagan_tf.errors import summarize
from sagan_tf.files.saved_models import regular_files
from sagan_tf.serving.batching import Batcher
from sagan_tf.serving.errors import RequestError
from sagan_tf.serving.folders import find_models, find_versions
from sagan_tf.serving.limits import Limits
from sagan_tf.serving.loaded_version import LoadedVersion, count_rows
from sagan_tf.serving.metrics import Metrics

_INLINE_BYTES = 1 << 15
_MAX_RETRY_SECONDS = 300.0


class _Failure(NamedTuple):
    """A version that could not be loaded: its files, and when to try again if they do not change."""

    files: frozenset | None
    delay: float
    retry_time: float


class _ServedVersion:
    """A loaded version with one batcher per signature."""

    def __init__(self, model, loaded, limits, metrics, run_in_thread):
        self.loaded, self._run_in_thread, self._decoding = loaded, run_in_thread, 0
        self.seconds = {name: metrics.seconds.labels(model, name) for name in loaded.signatures}
        self.batchers = {
            name: Batcher(
                functools.partial(self._run, signature, metrics.run_seconds.labels(model, name)),
                dataclasses.replace(limits, max_batch_size=limits.max_rows(signature.bytes_per_row)),
                metrics.rows.labels(model, name).observe, signature.can_batch,
            )
            for name, signature in loaded.signatures.items()
        }  # fmt: skip

    async def _run(self, signature, seconds, inputs):
        return await self._run_in_thread(_run_timed, signature.run, seconds, inputs)

    async def decode(self, decode):
        """Calls a coroutine function for a request, which keeps the version open."""
        self._decoding += 1
        try:
            return await decode(self.loaded)
        finally:
            self._decoding -= 1

    async def close(self):
        """Returns when all requests are answered."""
        while self._decoding:
            await asyncio.sleep(0.01)
        for batcher in self.batchers.values():
            await batcher.close()
        await asyncio.to_thread(self.loaded.close)


def _run_timed(run, seconds, inputs):
    with seconds.time():
        return run(inputs)


class Service:
    """Serves the newest version of every model in a folder; the one before until its requests are answered.

    TensorFlow runs outside the event loop on all cores, at most `limits.parallel_batches` at a time: while the last
    operations of one batch leave a core idle, another batch uses it.

    Args:
        folder: Path, as for `folders.find_models`.
        limits: `Limits`.
        log: Function of a str, called with lines for the user.

    Attributes:
        limits: `Limits`.
        metrics: `Metrics`.
        stopping: bool, shown by the health check.
    """

    def __init__(self, folder, limits=None, log=print):
        self.folder, self.limits, self.metrics, self.stopping = folder, limits or Limits(), Metrics(), False
        self._log, self._served, self._folders, self._closing = log, {}, {}, set()
        self._loading, self._failed, self._problems, self._poller = {}, {}, {}, None
        self._executor = concurrent.futures.ThreadPoolExecutor(self.limits.parallel_batches, "tensorflow")
        self._codec = concurrent.futures.ThreadPoolExecutor(1, "codec")

    async def start(self):
        """Loads the models, and starts to poll for new versions."""
        await self.update()
        self._poller = asyncio.create_task(self._poll())

    def stop(self):
        """Starts to stop: the health check says so, and no request waits for others any more."""
        self.stopping = True
        for served in self._served.values():
            for batcher in served.batchers.values():
                batcher.stop_waiting()

    async def close(self):
        """Answers the waiting requests and frees everything."""
        tasks = [*self._loading.values(), *filter(None, [self._poller])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await asyncio.gather(*(served.close() for served in self._served.values()), *self._closing)
        self._served.clear()
        self._executor.shutdown()
        self._codec.shutdown()

    @property
    def models(self):
        """dict, name -> LoadedVersion that is served."""
        return {name: served.loaded for name, served in self._served.items()}

    async def update(self):
        """Loads new versions and unloads removed ones; returns when that is done.

        A version that cannot be loaded is reported, and tried again when its files change or some time has passed;
        the newest one that can be loaded is served. What cannot be listed stays as it is.
        """
        await self._start_loading()
        if self._loading:
            await asyncio.wait(self._loading.values())

    async def _poll(self):
        while True:
            await asyncio.sleep(self.limits.poll_interval)
            try:
                await self._start_loading()
            except Exception as error:  # of any type: the poller must go on
                self._report(self.folder, f"cannot update {self.folder}: {summarize(error)}")

    async def _start_loading(self):
        """Starts a task for each model, so that a slow one does not hold up the others."""
        for name, versions in (await asyncio.to_thread(self._list_versions)).items():
            if versions is None or name in self._loading:
                continue
            if versions:
                task = self._loading[name] = asyncio.create_task(self._load_newest(name, versions))
                task.add_done_callback(functools.partial(self._end_loading, name))
            else:
                self._replace(name, None)

    def _end_loading(self, name, task):
        del self._loading[name]
        if not task.cancelled() and (error := task.exception()):
            self._report(name, f"cannot update {name}: {summarize(error)}")

    def _list_versions(self):
        """dict, name of a model -> its versions; None if they cannot be listed, which says nothing about them."""
        listed = {}
        try:
            self._folders |= find_models(self.folder)
            self._problems.pop(self.folder, None)
        except OSError as error:
            self._report(self.folder, f"cannot list {self.folder}: {error.strerror}. What is served stays.")
        for name, folder in self._folders.items():
            try:
                listed[name] = find_versions(folder)
                self._problems.pop(name, None)
            except OSError as error:
                listed[name] = None
                self._report(name, f"cannot list {folder}: {error.strerror}. What is served stays.")
        return listed

    async def _load_newest(self, name, versions):
        served = self._served.get(name)
        for number in reversed(versions):
            if served and number == served.loaded.number:
                return
            if await self._load(name, f"{self._folders[name]}/{number}"):
                return

    async def _load(self, name, folder):
        """Serves a version; returns whether that succeeded."""
        failure, files = self._failed.get(folder), None
        try:
            files = await asyncio.to_thread(regular_files, folder)
            if failure and failure.files == files and time.monotonic() < failure.retry_time:
                return False
            loaded = await asyncio.to_thread(LoadedVersion, folder, self.limits.allow_any_graph)
        except FileNotFoundError:
            return False  # the folder is being moved; the next update finds it
        except Exception as error:  # of any type: the server keeps what it has
            delay = min(2 * failure.delay, _MAX_RETRY_SECONDS) if failure else self.limits.poll_interval
            self._failed[folder] = _Failure(files, delay, time.monotonic() + delay)
            self._report(folder, f"cannot load {folder}: {summarize(error, 300)}")
            return False
        self._failed.pop(folder, None)
        self._problems.pop(folder, None)
        self._replace(name, loaded)
        return True

    def _report(self, subject, line):
        """Logs a problem once, until another one is reported or the subject is fine."""
        if self._problems.get(subject) != line:
            self._problems[subject] = line
            self._say(line)

    def _say(self, line):
        with contextlib.suppress(OSError, ValueError):  # a closed output stops nothing
            self._log(line)

    def _replace(self, name, loaded):
        previous = self._served.pop(name, None)
        if loaded:
            self._served[name] = _ServedVersion(name, loaded, self.limits, self.metrics, self._run_in_thread)
            self.metrics.version.labels(name).set(loaded.number)
            self._say(f"serving {name}, version {loaded.number}: {', '.join(loaded.signatures)}")
        if previous:
            if not loaded:
                self.metrics.version.remove(name)
                self._say(f"{name} has no version any more")
            task = asyncio.create_task(previous.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _run_in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def encode_or_decode(self, size, function, *arguments):
        """Calls a function, in a thread where it handles so many bytes that it would hold up other requests."""
        if size <= _INLINE_BYTES:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._codec, functools.partial(function, *arguments))

    def find(self, model, version=None):
        """Returns the LoadedVersion of a model, the newest for `version=None`; RequestError if it is not served."""
        return self._find(model, version).loaded

    def _find(self, model, version):
        served = self._served.get(model)
        if served is None or version not in (None, served.loaded.number):
            requested = f"Latest({model})" if version is None else f"Specific({model}, {version})"
            # A known model without a version may get one; before the first update no model is known.
            pending = served is None and (model in self._folders or not self._folders)
            raise RequestError(f"Servable not found for request: {requested}", 503 if pending else 404)
        return served

    async def predict(self, model, version, decode):
        """Returns (version number, signature name, dict of output arrays), or raises RequestError.

        Args:
            model: str, name.
            version: int; None: the newest.
            decode: Coroutine function from a `LoadedVersion` to (signature name, dict of arrays of declared shapes).
        """
        served = self._find(model, version)
        signature_name, inputs = await served.decode(decode)
        start = time.perf_counter()
        rows = count_rows(inputs, served.loaded.signature(signature_name).inputs)
        outputs = await served.batchers[signature_name].submit(inputs, rows)
        served.seconds[signature_name].observe(time.perf_counter() - start)
        return served.loaded.number, signature_name, outputs
