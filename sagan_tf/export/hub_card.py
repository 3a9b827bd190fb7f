"""The model card of a repository of the Hugging Face Hub: `README.md`, with YAML for its search and tables."""

import re

import yaml

from sagan_tf.export.loading_code import keras_code
from sagan_tf.export.model_card import to_markdown

_TAGS = ["sagan", "gan", "self-attention", "tensorflow"]
_TASK = "unconditional-image-generation"


def hub_loading_code(folded, name, tflite_path):
    """Returns name of a format -> lines of Python that load a generator from the Hub and make images of it.

    Args:
        folded: `FoldedGenerator`.
        name: str, such as `hf://owner/name`.
        tflite_path: str, a TFLite file in the repository.
    """
    label, labels = ("", "") if folded.num_classes is None else (', label=np.zeros(1, "int32")', ", labels=0")
    shape = ", ".join(map(str, folded.image_shape))
    return {
        "sagan_tf": [
            "import sagan_tf",
            f"images = sagan_tf.load_run({name!r}).sample(seeds=range(8){labels})  # (8, {shape}) uint8",
        ],
        "keras": keras_code(name, folded),
        "tflite": [
            "import numpy as np",
            "from ai_edge_litert.interpreter import Interpreter",
            "from huggingface_hub import hf_hub_download",
            f'path = hf_hub_download({name.removeprefix("hf://")!r}, "{tflite_path}")',
            f'latent = np.random.default_rng(0).standard_normal((1, {folded.latent_dim})).astype("float32")',
            'generate = Interpreter(path).get_signature_runner("serving_default")',
            f'image = generate(latent=latent{label})["image"]  # (1, {shape}) in [-1, 1]',
        ],
    }


def hub_card(card, pictures=(), license_id=None):
    """Renders the dict of `make_model_card` as a README.md of the Hub.

    Args:
        card: dict.
        pictures: (title, path in the repository) of further images.
        license_id: str, the Hub's identifier of a license; None leaves it open.
    """
    data = {"library_name": "keras", "pipeline_tag": _TASK, "tags": _TAGS}
    if license_id is not None:
        data["license"] = license_id
    if results := [_result(evaluation) for evaluation in card["training"]["evaluations"]]:
        data["model-index"] = [{"name": card["name"], "results": results}]
    shown = "".join(f"\n## {title}\n![{title}]({path})\n" for title, path in pictures)
    return f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n\n{to_markdown(card, 'From the Hub:')}{shown}"


def _result(evaluation):
    """A result of `sagan evaluate` in the form of the Hub's index of metrics."""
    metrics = [
        {"type": re.sub(r"\W+", "_", title.lower()), "name": title, "value": figure["value"]}
        for title, figure in evaluation["figures"].items()
        if figure["value"] is not None
    ]
    name = evaluation["reference"]
    data = {"name": name, "type": re.sub(r"[^\w.-]+", "_", name)}
    if evaluation["split"]:
        data["split"] = evaluation["split"]
    return {"task": {"type": _TASK}, "dataset": data, "metrics": metrics}
