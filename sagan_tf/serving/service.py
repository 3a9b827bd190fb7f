"""The models of a folder: loads and unloads versions, and answers the requests of both protocols."""

import asyncio
import concurrent.futures
import functools
import time

from sagan_tf.files.saved_models import regular_files
from sagan_tf.serving.batching import Batcher
from sagan_tf.serving.errors import RequestError
from sagan_tf.serving.folders import find_models, find_versions
from sagan_tf.serving.limits import Limits
from sagan_tf.serving.loaded_version import DEFAULT_SIGNATURE, LoadedVersion, count_rows
from sagan_tf.serving.metrics import Metrics


class _ServedVersion:
    """A loaded version with one batcher per signature."""

    def __init__(self, model, loaded, limits, metrics, run_in_thread):
        self.loaded, self._run_in_thread = loaded, run_in_thread
        self.seconds = {name: metrics.seconds.labels(model, name) for name in loaded.signatures}
        self.batchers = {
            name: Batcher(
                functools.partial(self._run, signature, metrics.run_seconds.labels(model, name)), limits,
                metrics.rows.labels(model, name).observe, signature.can_batch,
            )
            for name, signature in loaded.signatures.items()
        }  # fmt: skip

    async def _run(self, signature, seconds, inputs):
        return await self._run_in_thread(_run_timed, signature.run, seconds, inputs)

    async def close(self):
        """Returns when all requests are answered."""
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
        self._log, self._served, self._folders, self._failed, self._closing = log, {}, {}, {}, set()
        self._executor = concurrent.futures.ThreadPoolExecutor(self.limits.parallel_batches, "tensorflow")
        self._poller = None

    async def start(self):
        """Loads the models, and starts to poll for new versions."""
        await self.update()
        self._poller = asyncio.create_task(self._poll())

    async def close(self):
        """Answers the waiting requests and frees everything."""
        if self._poller:
            self._poller.cancel()
            await asyncio.wait([self._poller])
        await asyncio.gather(*(served.close() for served in self._served.values()), *self._closing)
        self._served.clear()
        self._executor.shutdown()

    @property
    def models(self):
        """dict, name -> LoadedVersion that is served."""
        return {name: served.loaded for name, served in self._served.items()}

    async def update(self):
        """Loads new versions and unloads removed ones.

        A version that cannot be loaded is reported and tried again when its files change; the version before stays.
        """
        self._folders |= find_models(self.folder)
        for name, folder in self._folders.items():
            newest = max(find_versions(folder), default=None)
            served = self._served.get(name)
            if newest is None:
                self._replace(name, None)
            elif served is None or newest != served.loaded.number:
                await self._load(name, f"{folder}/{newest}")

    async def _load(self, name, folder):
        files = None
        try:
            files = regular_files(folder)
            if self._failed.get(name) != files:
                self._replace(name, await asyncio.to_thread(LoadedVersion, folder, self.limits.allow_any_graph))
        except FileNotFoundError:
            return  # the folder is being moved; the next update finds it
        except Exception as error:  # of any type: the server keeps what it has
            self._failed[name] = files
            self._log(f"cannot load {folder}: {' '.join(str(error).split())[:300]}")

    def _replace(self, name, loaded):
        previous = self._served.pop(name, None)
        if loaded:
            self._served[name] = _ServedVersion(name, loaded, self.limits, self.metrics, self._run_in_thread)
            self.metrics.version.labels(name).set(loaded.number)
            self._log(f"serving {name}, version {loaded.number}: {', '.join(loaded.signatures)}")
        if previous:
            if not loaded:
                self.metrics.version.remove(name)
                self._log(f"{name} has no version any more")
            task = asyncio.create_task(previous.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _run_in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def _poll(self):
        while True:
            await asyncio.sleep(self.limits.poll_interval)
            await self.update()

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

    async def predict(self, model, version, signature_name, decode_inputs, protocol):
        """Returns (version number, dict of output arrays), or raises RequestError.

        Args:
            model: str, name.
            version: int; None: the newest.
            signature_name: str; empty: the default one.
            decode_inputs: Function from a dict of TensorInfo to a dict of arrays of the declared shapes.
            protocol: "rest" or "grpc", for the metrics.
        """
        labels, status, start = ("unknown", "unknown"), 500, time.perf_counter()
        try:
            served = self._find(model, version)
            signature_name = signature_name or DEFAULT_SIGNATURE
            signature = served.loaded.signature(signature_name)
            labels = (model, signature_name)  # only known names, or clients could add metrics without end
            inputs = decode_inputs(signature.inputs)
            rows = count_rows(inputs, signature.inputs)
            outputs = await served.batchers[signature_name].submit(inputs, rows)
            served.seconds[signature_name].observe(time.perf_counter() - start)
            status = 200
            return served.loaded.number, outputs
        except RequestError as error:
            status = error.status
            raise
        finally:
            self.metrics.count(*labels, protocol, status).inc()
