"""The manifests of docs/kubernetes: their shell lines set TF_CONFIG, and their commands parse."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from sagan_tf.config import load_config
from sagan_tf.training.workers import Worker, read_worker

ROOT = Path(__file__).resolve().parents[1]


def documents(name):
    text = (ROOT / "docs" / "kubernetes" / name).read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def task_of(container, index):
    """Runs a container's shell lines as pod `index`; returns its `Worker`, the number of workers and the command."""
    environment = {variable["name"]: variable["value"] for variable in container["env"]}
    script, command = container["args"][0].split("exec ")
    result = subprocess.run(
        [*container["command"], script + 'printf %s "$TF_CONFIG"'], capture_output=True, text=True, check=True,
        env={**environment, "PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": str(index)},
    )  # fmt: skip
    return read_worker(result.stdout), int(environment["WORKERS"]), command.replace("\\\n", " ").split()


@pytest.mark.parametrize("index", [0, 3])
def test_indexed_job_sets_tf_config_of_each_pod(index):
    manifest = documents("indexed_job.yaml")
    job, service = manifest["Job"], manifest["Service"]["metadata"]["name"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    worker, workers, command = task_of(container, index)
    assert workers == job["spec"]["completions"] == job["spec"]["parallelism"]
    # Pods of an indexed Job are named after the Job and their index, within the subdomain.
    assert job["spec"]["template"]["spec"]["subdomain"] == service
    assert worker == Worker(index, 4, f"{job['metadata']['name']}-{index}.{service}:2222")
    check_command(command)


@pytest.mark.parametrize("index", [0, 3])
def test_trainjob_sets_tf_config_of_each_pod(index):
    manifest = documents("trainjob.yaml")
    runtime, job = manifest["TrainingRuntime"], manifest["TrainJob"]
    name, (node,) = job["metadata"]["name"], runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    # Trainer finds the training container by these two names.
    assert node["template"]["metadata"]["labels"] == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    (container,) = node["template"]["spec"]["template"]["spec"]["containers"]
    assert node["name"] == container["name"] == "node"
    worker, workers, command = task_of(container, index)
    assert workers == runtime["spec"]["mlPolicy"]["numNodes"] == job["spec"]["trainer"]["numNodes"]
    # Pods are named after the TrainJob, the replicated job, the job's index and their own.
    assert worker == Worker(index, 4, f"{name}-node-0-{index}.{name}:2222")
    check_command(command)


def test_tfjob_command_is_valid():
    worker = documents("tfjob.yaml")["TFJob"]["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    check_command(container["command"] + container["args"])


def check_command(command):
    assert command[:3] == ["python", "-m", "sagan_tf.train"]
    config = load_config(command[3:])
    assert config.run == "/shared/runs/imagenet128"
    assert config.training.batch_size % (4 * 8) == 0  # four workers of eight GPUs
