"""Writes what torch-fidelity, clean-fid and prdc compute from features; needs no TensorFlow.

    python -m pip install torch torch-fidelity clean-fid prdc
    python tests/parity/make_metrics_goldens.py FOLDER

Inputs come from recipe.py.
"""

import contextlib
import io
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import prdc
import recipe
import torch

STUBS = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
# The packages import torchvision for files and networks, which these metrics do not use; PyPI's build of it does not
# load with a CPU build of PyTorch.
with mock.patch.dict(sys.modules, {name: mock.MagicMock() for name in STUBS}):
    from cleanfid import fid as clean_fid
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

GOLDENS = ("published_metrics",)


def published_metrics():
    data, images = recipe.activations(), recipe.small_images()
    first, second = data["first"], data["second"]
    tensors = [torch.from_numpy(array) for array in (first, second)]
    statistics = [metric_fid.fid_features_to_statistics(tensor) for tensor in tensors]
    score = metric_isc.isc_features_to_metric(torch.from_numpy(data["class_logits"]), splits=10, shuffle=False)
    kernel = metric_kid.kid_features_to_metric(
        tensors[0][:260], tensors[1], kid_subsets=1, kid_subset_size=260, verbose=False
    )
    precision, recall = metric_prc.calculate_precision_recall_full(*tensors, neighborhood=3)
    with contextlib.redirect_stdout(io.StringIO()):
        dense = prdc.compute_prdc(second, first, nearest_k=5)
    resized = interpolate_bilinear_2d_like_tensorflow1x(
        torch.from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2)), size=(299, 299), align_corners=False
    )
    return {
        "fidelity_frechet": metric_fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"],
        "clean_frechet": clean_fid.fid_from_feats(first, second),
        "fidelity_kernel": kernel["kernel_inception_distance_mean"],
        # One subset of all images gives the distance itself.
        "clean_kernel": clean_fid.kernel_distance(first[:260], second, num_subsets=1, max_subset_size=260),
        "fidelity_score": [score["inception_score_mean"], score["inception_score_std"]],
        "fidelity_precision_recall": [precision, recall],
        "prdc": [dense["precision"], dense["recall"], dense["density"], dense["coverage"]],
        "fidelity_resized": resized.permute(0, 2, 3, 1).numpy()[:, ::13, ::13],
    }


def main(folder):
    arrays = {name: np.asarray(value) for name, value in published_metrics().items()}
    np.savez_compressed(Path(folder) / "published_metrics.npz", **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
