"""The models of a folder: which versions are loaded, and the one way by which every protocol asks them."""

import asyncio
import concurrent.futures
import functools
import time

from sagan_tf.serving.batching import Batcher
from sagan_tf.serving.folders import find_models, find_versions, state_of
from sagan_tf.serving.limits import Limits
from sagan_tf.serving.metrics import Metrics
from sagan_tf.serving.problems import RequestProblem
from sagan_tf.serving.versions import DEFAULT_SIGNATURE, LoadedVersion, count_rows


class _Served:
    """A loaded version and its batchers."""

    def __init__(self, model, loaded, limits, metrics, run_in_thread):
        self.loaded, self._run_in_thread = loaded, run_in_thread
        self.seconds = {name: metrics.seconds.labels(model, name) for name in loaded.signatures}
        self.batchers = {
            name: Batcher(
                functools.partial(self._run, signature, metrics.run_seconds.labels(model, name)), limits,
                metrics.rows.labels(model, name).observe, signature.joins,
            )
            for name, signature in loaded.signatures.items()
        }  # fmt: skip

    async def _run(self, signature, seconds, inputs):
        return await self._run_in_thread(_timed, signature.run, seconds, inputs)

    async def close(self):
        """Ends once every request is answered."""
        for batcher in self.batchers.values():
            await batcher.close()
        await asyncio.to_thread(self.loaded.close)


def _timed(run, seconds, inputs):
    with seconds.time():
        return run(inputs)


class Service:
    """Serves the newest version of every model in a folder, and the one before until its requests are answered.

    TensorFlow runs outside the event loop, on all cores, `limits.parallel_batches` at a time at most: while the last
    operations of one batch leave a core idle, the other's have it.

    Args:
        folder: See `folders.find_models`.
        limits: Limits.
        say: Function of a str, for what a person should read.

    Attributes:
        limits: Limits.
        metrics: Metrics.
        stopping: bool; whoever asks for the health is told.
    """

    def __init__(self, folder, limits=None, say=print):
        self.folder, self.limits, self.metrics, self.stopping = folder, limits or Limits(), Metrics(), False
        self._say, self._served, self._folders, self._failed, self._closing = say, {}, {}, {}, set()
        self._executor = concurrent.futures.ThreadPoolExecutor(self.limits.parallel_batches, "tensorflow")
        self._poller = None

    async def start(self):
        """Loads what is there, and keeps looking."""
        await self.look()
        self._poller = asyncio.create_task(self._poll())

    async def close(self):
        """Answers what waits and gives everything back."""
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

    async def look(self):
        """Loads versions that have appeared, and unloads those that are gone.

        What cannot be loaded is said, and tried again when its files change; what was served goes on.
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
        state = None
        try:
            state = state_of(folder)
            if self._failed.get(name) != state:
                self._replace(name, await asyncio.to_thread(LoadedVersion, folder))
        except FileNotFoundError:
            return  # it is being moved; the next look will tell
        except Exception as error:  # whatever lies there, the server goes on with what it has
            self._failed[name] = state
            self._say(f"cannot load {folder}: {' '.join(str(error).split())[:300]}")

    def _replace(self, name, loaded):
        before = self._served.pop(name, None)
        if loaded:
            self._served[name] = _Served(name, loaded, self.limits, self.metrics, self._run_in_thread)
            self.metrics.version.labels(name).set(loaded.number)
            self._say(f"serving {name}, version {loaded.number}: {', '.join(loaded.signatures)}")
        if before:
            if not loaded:
                self.metrics.version.remove(name)
                self._say(f"{name} has no version any more")
            task = asyncio.create_task(before.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _run_in_thread(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)

    async def _poll(self):
        while True:
            await asyncio.sleep(self.limits.poll_interval)
            await self.look()

    def find(self, model, version=None):
        """Finds what is asked for.

        Args:
            model: Name.
            version: int, or None for the newest.

        Returns:
            LoadedVersion.

        Raises:
            RequestProblem: There is no such model or version, or none yet.
        """
        return self._find(model, version).loaded

    def _find(self, model, version):
        served = self._served.get(model)
        if served is None or version not in (None, served.loaded.number):
            wanted = f"Latest({model})" if version is None else f"Specific({model}, {version})"
            # A model that is known and not there is about to come; before the first look none is known.
            waiting = served is None and (model in self._folders or not self._folders)
            raise RequestProblem(f"Servable not found for request: {wanted}", 503 if waiting else 404)
        return served

    async def predict(self, model, version, signature_name, make_inputs, protocol):
        """Answers a predict request.

        Args:
            model: Name.
            version: int, or None for the newest.
            signature_name: str; empty for the default one.
            make_inputs: Function of the signature's inputs, dict of TensorInfo, that gives a dict of arrays of the
                declared shapes, or raises RequestProblem.
            protocol: "rest" or "grpc", for the metrics.

        Returns:
            (version number, dict of output arrays).

        Raises:
            RequestProblem: It is refused.
        """
        names, status, started = ("unknown", "unknown"), 500, time.perf_counter()
        try:
            served = self._find(model, version)
            signature_name = signature_name or DEFAULT_SIGNATURE
            signature = served.loaded.signature(signature_name)
            names = (model, signature_name)  # only now: names that clients made up would grow the metrics without end
            inputs = make_inputs(signature.inputs)
            rows = count_rows(inputs, signature.inputs)
            outputs = await served.batchers[signature_name].submit(inputs, rows)
            served.seconds[signature_name].observe(time.perf_counter() - started)
            status = 200
            return served.loaded.number, outputs
        except RequestProblem as problem:
            status = problem.status
            raise
        finally:
            self.metrics.count(*names, protocol, status).inc()
