"""Draws and measures the attention maps of a run: what `sagan attend` does once its options are parsed."""

import json

import numpy as np

from sagan_tf.commands.attention_results import AttentionReader
from sagan_tf.commands.options import AttendOptions
from sagan_tf.commands.subjects import open_subject
from sagan_tf.errors import UserError
from sagan_tf.files.atomic import atomic_write, write_text
from sagan_tf.files.hashing import sha256_of_parts
from sagan_tf.generation.truncation import truncation_text
from sagan_tf.utils.progress import progress_bar
from sagan_tf.viewing.attention_images import make_row, save_rows
from sagan_tf.viewing.attention_measures import format_table
from sagan_tf.viewing.explorer import save_explorer

IMAGES, IMAGES_PER_STEP, EXPLORER_IMAGES, MEASURED = 4, 2, 16, 32
_LONGEST_SUFFIX = 100  # characters; file systems allow 255 per name


def attend_run(options):
    """Draws and measures the attention maps of a run.

    Args:
        options: `AttendOptions`.

    Yields:
        pathlib.Path of each file, once it is complete; then str, a table of the measures and what they are means of.

    Raises:
        UserError: The run has no checkpoint or no attention layer, or the options do not fit it.
    """
    run = open_subject(options.run, options.pretrained)
    _check_pictures(options)
    out = options.out or run.output_path / "attention"
    if options.step == "all":
        for name in ("npz", "explorer", "measured"):
            if getattr(options, name):
                raise UserError(f"--{name}: needs a single step; leave out --{name} or --step all.")
        yield from _draw_over_training(run, options, out)
        return
    reader = AttentionReader(run, options)
    results = reader.results(options.images or IMAGES, options.measured or MEASURED)
    arrays, suffix = {}, _suffix(options.points)
    for result in results:
        for name, maps in result.maps.items():
            rows = [_make_row(result, name, i, options.points) for i in range(len(result.images))]
            path = out / f"{result.network}_{name}_{result.pictures}_step_{result.step:08d}{suffix}.png"
            title = _title(result.network, name, result.pictures)
            gamma = result.measures[name]["gamma"]
            save_rows(rows, path, f"{title}, step {result.step}, gamma {gamma:.3f}", options.columns)
            yield path
            arrays |= _arrays(f"{result.network}/{name}/{result.pictures}", result.images, maps, rows)
    summary = [_describe(result, options) | measures for result in results for measures in result.measures.values()]
    path = out / f"summary_step_{reader.step:08d}.json"
    write_text(path, json.dumps([_without_nan(row) for row in summary], indent=2, allow_nan=False) + "\n")
    yield path
    if options.npz:
        path = out / f"maps_step_{reader.step:08d}{suffix}.npz"
        with atomic_write(path) as temporary_path:
            np.savez_compressed(temporary_path, **arrays)
        yield path
    if options.explorer:
        path = out / f"explorer_step_{reader.step:08d}.html"
        save_explorer(reader.explorer_data(options.images or EXPLORER_IMAGES), path)
        yield path
    yield format_table(summary)
    if summary:
        yield _describe_means(summary, options)


def _describe(result, options):
    """What the measures of an `AttentionResult` are of: dict of JSON values."""
    is_drawn = result.pictures == "generated"
    drawn = {name: getattr(options, name) if is_drawn else None for name in ("seed", "truncation")}
    return {"network": result.network, "pictures": result.pictures, "step": result.step, **drawn}


def _check_pictures(options):
    if options.pictures != "real":
        return
    if options.network == "generator":
        raise UserError("--pictures real: the generator takes no images; leave out --network generator.")
    for name in ("seed", "truncation"):
        if getattr(options, name) != getattr(AttendOptions, name) and not options.explorer:
            raise UserError(f"--{name}: real images have none; leave out --{name} or --pictures real.")


def _draw_over_training(run, options, out):
    """Draws one row per step of the same images, with the query points of the newest step."""
    steps = run.checkpoint_steps()
    if not steps:
        raise UserError(f"{run.source}: there is no checkpoint yet.")
    results_of = {}
    count = options.images or IMAGES_PER_STEP
    for step in progress_bar(steps, unit="checkpoint", desc="reading", leave=False):
        for result in AttentionReader(run, options, step).results(count, count):
            for name in result.maps:
                results_of.setdefault((result.network, name, result.pictures), []).append(result)
    for (network, name, pictures), results in results_of.items():
        rows = []
        for i in range(len(results[-1].images)):
            points = _make_row(results[-1], name, i, options.points).points
            for result in results:
                title = f"{result.titles[i]}, step {result.step}, gamma {result.maps[name].gamma:.3f}"
                rows.append(make_row(result.maps[name], i, result.images[i], points, title))
        path = out / f"{network}_{name}_{pictures}_over_training{_suffix(options.points)}.png"
        save_rows(rows, path, f"{_title(network, name, pictures)}, over training", options.columns)
        yield path


def _describe_means(summary, options):
    counts = {row["pictures"]: row["images"] for row in summary}
    seeds = f"from seed {options.seed}, truncation {truncation_text(options.truncation)}"
    texts = {"generated": f"generated images {seeds}", "real": "real images"}
    return f"Means over {' and '.join(f'{count} {texts[kind]}' for kind, count in counts.items())}."


def _without_nan(row):
    """JSON has no NaN, which measures without any position have."""
    return {name: None if value != value else value for name, value in row.items()}


def _make_row(result, name, i, points):
    """The row of image `i`; `points` are (x, y) in px, or None."""
    maps, image = result.maps[name], result.images[i]
    if points is not None:
        (height, width), (rows, columns) = maps.query_shape, image.shape[:2]
        points = [(y * height // rows, x * width // columns) for x, y in points]
    return make_row(maps, i, image, points, result.titles[i])


def _title(network, name, pictures):
    return f"Attention of the {network} in layer {name}, {pictures} images"


def _suffix(points):
    """Keeps the files of chosen points apart from those of the default points and of each other."""
    if points is None:
        return ""
    text = "_".join(f"{x}-{y}" for x, y in points)
    if len(text) > _LONGEST_SUFFIX:
        text = sha256_of_parts([text.encode()])[:16]
    return f"_points_{text}"


def _arrays(prefix, images, maps, rows):
    return {
        f"{prefix}/images": images,
        f"{prefix}/scores": maps.scores,
        f"{prefix}/points": np.int32([row.points for row in rows]),
        f"{prefix}/query_shape": np.int32(maps.query_shape),
        f"{prefix}/key_shape": np.int32(maps.key_shape),
        f"{prefix}/gamma": np.float32(maps.gamma),
    }
