"""The manifests of docs/kubernetes: what their pods would run, run here as far as it goes."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from sagan_tf.config import load_config
from sagan_tf.training.workers import Worker, read_worker

ROOT = Path(__file__).resolve().parents[1]


def documents(name):
    return {one["kind"]: one for one in yaml.safe_load_all((ROOT / "docs" / "kubernetes" / name).read_text())}


def task_of(container, index):
    """Who pod number `index` is, by the shell lines of a container; and the command that they end in."""
    environment = {one["name"]: one["value"] for one in container["env"]}
    before, command = container["args"][0].split("exec ")
    done = subprocess.run(
        [*container["command"], before + 'printf %s "$TF_CONFIG"'], capture_output=True, text=True, check=True,
        env={**environment, "PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": str(index)},
    )  # fmt: skip
    return read_worker(done.stdout), int(environment["WORKERS"]), command.split()


@pytest.mark.parametrize("index", [0, 3])
def test_indexed_job_tells_each_pod_who_it_is(index):
    found = documents("indexed_job.yaml")
    job, service = found["Job"], found["Service"]["metadata"]["name"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    worker, workers, command = task_of(container, index)
    assert workers == job["spec"]["completions"] == job["spec"]["parallelism"]
    # Kubernetes names the pods of an indexed Job after the Job and their number, within the subdomain.
    assert job["spec"]["template"]["spec"]["subdomain"] == service
    assert worker == Worker(index, 4, f"{job['metadata']['name']}-{index}.{service}:2222")
    check_command(command)


@pytest.mark.parametrize("index", [0, 3])
def test_trainjob_tells_each_pod_who_it_is(index):
    found = documents("trainjob.yaml")
    runtime, job = found["TrainingRuntime"], found["TrainJob"]
    name, (node,) = job["metadata"]["name"], runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    # By these two names Trainer finds the container that trains.
    assert node["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    (container,) = node["template"]["spec"]["template"]["spec"]["containers"]
    assert node["name"] == container["name"] == "node"
    worker, workers, command = task_of(container, index)
    assert workers == runtime["spec"]["mlPolicy"]["numNodes"] == job["spec"]["trainer"]["numNodes"]
    # A JobSet names pods after itself (as the TrainJob), the replicated job, the job's number and theirs.
    assert worker == Worker(index, 4, f"{name}-node-0-{index}.{name}:2222")
    check_command(command)


def test_tfjob_runs_a_command_that_there_is():
    worker = documents("tfjob.yaml")["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    check_command(container["command"] + container["args"])


def check_command(words):
    assert words[:3] == ["python", "-m", "sagan_tf.train"]
    flags = words[3:]
    flags[flags.index("--config") + 1] = str(ROOT / flags[flags.index("--config") + 1])
    config = load_config(flags)
    assert config.run == "/shared/runs/imagenet128"
    assert config.training.batch_size % (4 * 8) == 0  # four workers of eight GPUs
