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


@pytest.mark.parametrize("index", [0, 3])
def test_indexed_job_tells_each_pod_who_it_is(index):
    found = documents("indexed_job.yaml")
    job, service = found["Job"], found["Service"]["metadata"]["name"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert int(environment["WORKERS"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    before, command = container["args"][0].split("exec ")
    done = subprocess.run(
        [*container["command"], before + 'printf %s "$TF_CONFIG"'], capture_output=True, text=True, check=True,
        env={**environment, "PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": str(index)},
    )  # fmt: skip
    # Kubernetes names the pods of an indexed Job after the Job and their number, within the subdomain.
    assert job["spec"]["template"]["spec"]["subdomain"] == service
    assert read_worker(done.stdout) == Worker(index, 4, f"{job['metadata']['name']}-{index}.{service}:2222")
    check_command(command.split())


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
