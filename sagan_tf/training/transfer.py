"""Takes over weights of other networks: by name and shape, those of classes by the name of the class."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from sagan_tf.errors import list_some
from sagan_tf.generation.sampler import count_classes
from sagan_tf.layers import ConditionalBatchNormalization
from sagan_tf.layers.spectral_normalization import spectral_normalizations
from sagan_tf.networks.freezing import frozen_parts, part_of
from sagan_tf.networks.named_weights import is_singular_vector, weights_by_name

NEW_CLASSES = ("mean", "random")
_NETWORKS = ("generator", "ema_generator", "discriminator")
_LISTED = 8  # class names in a line
# Attributes of layers that decide what the same weights compute. Another first map scrambles the layer before it.
_SETTINGS = ("epsilon", "pool_size", "resampling")
_FIRST_MAP = "reshape.target_shape"


@dataclass(frozen=True)
class Weights:
    """Weights of networks, to start others from.

    Args:
        source: Where they come from, for messages.
        networks: dict of `generator`, `ema_generator` and, if known, `discriminator` -> dict, name of a weight ->
            array.
        num_classes: int, or None without classes.
        class_names: Names of the classes in the order of their labels; None if they are not known.
        settings: dict, network -> dict, such as `attention_16.pool_size` -> value: what weights do not show.
        sigmas: dict, network -> dict, path of a spectrally normalized layer with one kernel -> its sigma.
    """

    source: str
    networks: dict[str, dict[str, NDArray]]
    num_classes: int | None
    class_names: Sequence[str] | None = None
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    sigmas: dict[str, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names, count = self.class_names, self.num_classes
        if names is not None and count is not None and len(names) != count:
            raise ValueError(f"`class_names` must name the {count} classes. Received: {len(names)} names.")

    @classmethod
    def of(
        cls,
        networks: keras.Model | dict[str, keras.Model],
        source: str = "the source",
        class_names: Sequence[str] | None = None,
    ) -> Weights:
        """Copies the weights of networks.

        Args:
            networks: `SAGAN`; a generator, which then is its own average; or dict of `generator` and, if known, the
                names of other networks -> keras.Model.
            source: str, for messages.
            class_names: Names of the classes in the order of their labels; None if they are not known.

        Returns:
            Weights.

        Raises:
            TypeError: `networks` is none of these.
            ValueError: There are more or fewer names than classes.
        """
        if hasattr(networks, "ema_generator"):
            networks = {name: getattr(networks, name) for name in _NETWORKS}
        elif isinstance(networks, keras.Model):
            networks = {"generator": networks, "ema_generator": networks}
        elif isinstance(networks, dict):
            networks = {"ema_generator": networks["generator"], **networks}
        else:
            raise TypeError(
                "Weights are taken from a SAGAN or a generator; `sagan_tf.read_weights` reads those of a run folder, a "
                f".keras file or hf://owner/name. Received: {networks!r}."
            )
        arrays = {
            name: {key: ops.convert_to_numpy(weight) for key, weight in weights_by_name(network).items()}
            for name, network in networks.items()
        }
        settings = {name: _settings(network) for name, network in networks.items()}
        sigmas = {name: _sigmas(network) for name, network in networks.items()}
        return cls(source, arrays, count_classes(networks["generator"]), class_names, settings, sigmas)


@dataclass(frozen=True)
class Part:
    """What became of a part of a network, such as a block.

    Args:
        network: `generator`, which stands for its average too, or `discriminator`.
        name: As in `networks.freezing.part_of`.
        num_weights: int, variables that it consists of.
        outcome: `taken`; `new`, as it was before; or `left`, at the source.
        note: Why it was not taken.
    """

    network: str
    name: str
    num_weights: int
    outcome: str
    note: str = ""


@dataclass(frozen=True)
class Transfer:
    """What was taken from a source, what was left there and what is new; its text is a table.

    Args:
        parts: list of `Part`.
        classes: list of str, lines about the classes.
    """

    parts: list[Part]
    classes: list[str]

    def new_parts(self, network: str) -> set[str]:
        """Names of the parts of a network, `generator` or `discriminator`, that were not taken."""
        return {part.name for part in self.parts if part.network == network and part.outcome == "new"}

    def __str__(self) -> str:
        rows = [("network", "part", "weights", "outcome")]
        for part in self.parts:
            note = f": {part.note}" if part.note else ""
            rows.append((part.network, part.name, str(part.num_weights), part.outcome + note))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d}" for a, b, c, d in rows]
        return "\n".join([*lines, *self.classes])


def take_weights(gan, weights, class_names=None, new_classes="mean"):
    """Sets the networks of a SAGAN to `Weights` where they fit, in whole parts; see `SAGAN.load_weights_from`.

    Args:
        gan: `SAGAN`.
        weights: `Weights`.
        class_names: Names of the classes of `gan` in the order of their labels; None if they are not known.
        new_classes: One of `NEW_CLASSES`, the rows of classes that the source does not have.

    Returns:
        Transfer.

    Raises:
        ValueError: An argument is out of its range, only one side has classes, names of classes are not unique, or no
            part fits. The networks are unchanged then.
    """
    if new_classes not in NEW_CLASSES:
        raise ValueError(f"`new_classes` must be one of {', '.join(NEW_CLASSES)}. Received: {new_classes!r}.")
    if class_names is not None and len(class_names) != (gan.num_classes or 0):
        raise ValueError(f"`class_names` must name {gan.num_classes or 'no'} classes. Received: {len(class_names)}.")
    if (weights.num_classes is None) != (gan.num_classes is None):
        raise ValueError(
            f"{weights.source} has {weights.num_classes or 'no'} classes, and the networks to train have "
            f"{gan.num_classes or 'none'}: both must have classes, or neither."
        )
    for names in (class_names, weights.class_names):
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"the names of the classes must differ. Received: {', '.join(map(str, names))}.")
    labels, lines = _match_classes(gan.num_classes, class_names, weights, new_classes)
    parts, values = [], []
    for name in _NETWORKS:
        network = getattr(gan, name)
        if name == "ema_generator" and network is gan.generator:
            continue
        report, taken = _match_parts(network, name, weights, labels, new_classes)
        parts += report if name != "ema_generator" else []
        values += taken
    if not values:
        raise ValueError(
            f"no weights of {weights.source} fit the networks to train: {parts[0].note}. Use the widths of the source."
        )
    transfer = Transfer(parts, lines)
    for variable, value in values:
        variable.assign(value)
    _copy_average_to_frozen(gan, transfer)
    for name in ("generator", "discriminator"):
        if names := frozen_new_parts(gan, transfer, name):
            warnings.warn(f"Frozen parts of the {name} stay as they were: {', '.join(names)}.", stacklevel=3)
    return transfer


def frozen_new_parts(gan, transfer, name):
    """Lists the frozen parts of a network, `generator` or `discriminator`, that a `Transfer` did not take."""
    return sorted(frozen_parts(getattr(gan, name)) & transfer.new_parts(name))


def _copy_average_to_frozen(gan, transfer):
    """Copies the averaged weights into the generator's frozen parts, so that their average does not drift."""
    taken, average = frozen_parts(gan.generator) - transfer.new_parts("generator"), weights_by_name(gan.ema_generator)
    for name, weight in weights_by_name(gan.generator).items():
        if part_of(name) in taken:
            weight.assign(average[name])


def _settings(network):
    """Maps, such as `attention_16.pool_size` -> value, the attributes `_SETTINGS` of the layers of a network."""
    settings = {}
    for layer in network.layers:
        # Of conditional batch normalization, and of a convolution with spectral normalization.
        inner = getattr(layer, "normalization", getattr(layer, "layer", layer))
        settings |= {f"{layer.name}.{key}": getattr(inner, key) for key in _SETTINGS if hasattr(inner, key)}
        if layer.name == "reshape" and isinstance(layer, keras.layers.Reshape):
            settings[_FIRST_MAP] = layer.target_shape
    return settings


def _sigmas(network):
    layers = spectral_normalizations(network).items()
    return {path: float(layer.sigma()) for path, layer in layers if layer.built and len(layer.vectors) == 1}


def _difference(own, theirs, part, origin):
    """What the settings of a part and of its origin at the source differ in, as text; empty if in nothing."""
    if part == "dense":
        names = {_FIRST_MAP: _FIRST_MAP}
    else:
        names = {name: origin + name[len(part) :] for name in own if part_of(name.partition(".")[0]) == part}
    texts = [
        f"{name} is {theirs[other]} at the source, {own[name]} here"
        for name, other in names.items()
        if name in own and other in theirs and own[name] != theirs[other]
    ]
    return "; ".join(texts)


def _match_classes(num_classes, names, weights, new_classes):
    """Row at the source of each class, -1 for a new one, None without classes; and lines for the report."""
    if num_classes is None:
        return None, []
    if names is None or weights.class_names is None:
        whose = "The source" if weights.class_names is None else "This run"
        by_number = num_classes == weights.num_classes
        outcome = "taken by number" if by_number else f"new ({_DESCRIPTIONS[new_classes]})"
        labels = np.arange(num_classes) if by_number else np.full(num_classes, -1)
        return labels, [f"{whose} does not name its classes: all {num_classes} {outcome}."]
    rows = {name: row for row, name in enumerate(weights.class_names)}
    labels = np.array([rows.get(name, -1) for name in names])
    groups = {
        "classes taken": [name for name in names if name in rows],
        f"classes new ({_DESCRIPTIONS[new_classes]})": [name for name in names if name not in rows],
        "classes left": [name for name in weights.class_names if name not in names],
    }
    return labels, [f"{title}: {list_some(group, _LISTED)}" for title, group in groups.items() if group]


_DESCRIPTIONS = {"mean": "mean of all classes of the source", "random": "freshly drawn"}


def _match_parts(network, name, source, labels, new_classes):
    """Lists what becomes of each `Part`, and (variable, value) of those that are taken from the `Weights`."""
    own, theirs = _grouped(weights_by_name(network)), _grouped(source.networks.get(name, {}))
    settings, their_settings = _settings(network), source.settings.get(name, {})
    tables, sigmas = _class_tables(network), source.sigmas.get(name, {})
    problems = {part: _problem(weights, theirs.get(part), tables) for part, weights in own.items()}
    if "dense" in problems:
        problems["dense"] = problems["dense"] or _difference(settings, their_settings, "dense", "dense")
    matches = {part: part for part in own if not problems[part]}
    matches |= _match_from_end(own, theirs, matches, tables)
    report, values = [], []
    for part, weights in own.items():
        if part not in matches:
            report.append(Part(name, part, len(weights), "new", problems[part]))
            continue
        origin = matches[part]
        notes = [
            "" if origin == part else f"from {origin}",
            _difference(settings, their_settings, part, origin),
            _note_of_u(weights, theirs[origin], sigmas),
        ]
        report.append(Part(name, part, len(weights), "taken", "; ".join(filter(None, notes))))
        for key, value in _renamed(_as_here(theirs[origin], weights, origin, part, sigmas), origin, part).items():
            if key in tables:
                values.append((weights[key], _class_rows(weights[key], value, labels, new_classes)))
            elif key in weights:
                values.append((weights[key], value))
    # A part of the same name that was not taken is in the report already, with the reason.
    left = [part for part in theirs if part not in matches.values() and (part not in own or part in matches)]
    return [*report, *(Part(name, part, len(theirs[part]), "left", "nothing here takes it") for part in left)], values


def _match_from_end(own, theirs, matches, tables):
    """Matches blocks that have no match yet with those equally far from the output, for another image size.

    A network for images of twice the size has a block more; in its widths, the others are before or after it.
    """
    ends = (reversed([part for part in groups if part.startswith("block_")]) for groups in (own, theirs))
    return {
        part: other
        for part, other in zip(*ends)
        if part not in matches
        and other not in matches
        and not _problem(own[part], _renamed(theirs[other], other, part), tables)
    }


def _note_of_u(own, theirs, sigmas):
    """Says if only one side of a part is spectrally normalized, so that its kernels have another scale there."""
    here, there = (any(map(is_singular_vector, group)) for group in (own, theirs))
    if here == there:
        return ""
    if here:
        return "u is new, the source has none: it does not divide by sigma"
    paths = {name.rpartition("/")[0] for name in theirs if is_singular_vector(name)}
    is_divided = paths <= sigmas.keys()  # else a layer with several kernels, or arrays alone
    return "divided by sigma, as at the source" if is_divided else "spectrally normalized at the source, not here"


def _as_here(theirs, own, origin, part, sigmas):
    """The weights of a part, the kernels over sigma where only the source is spectrally normalized."""
    weights = {}
    for name, value in theirs.items():
        path = name.rpartition("/")[0]
        is_plain_here = f"{part}{path[len(origin) :]}/u" not in own
        is_kernel = np.ndim(value) > 1
        weights[name] = value / sigmas[path] if path in sigmas and is_plain_here and is_kernel else value
    return weights


def _renamed(group, old, new):
    return {new + name[len(old) :]: value for name, value in group.items()}


def _grouped(weights):
    groups = {}
    for name, weight in weights.items():
        groups.setdefault(part_of(name), {})[name] = weight
    return groups


def _class_tables(network):
    """Names of the weights with one row per class."""
    norms = [layer.name for layer in network.layers if isinstance(layer, ConditionalBatchNormalization)]
    names = {f"{norm}/{table}" for norm in norms for table in ("gamma", "beta")}
    # u of the embedding has one entry per class: a left singular vector, so that it follows its rows.
    return (names | {"embedding/embeddings", "embedding/u"}) & set(weights_by_name(network))


def _problem(own, theirs, tables):
    """Why a part cannot be taken; an empty text if it can."""
    if theirs is None:
        return "not at the source"
    for name in sorted(own, key=is_singular_vector):
        if name not in theirs:
            if is_singular_vector(name):  # power iteration finds it
                continue
            return f"{name} is not at the source"
        first = 1 if name in tables else 0
        there, here = tuple(theirs[name].shape), tuple(own[name].shape)
        if len(there) != len(here) or there[first:] != here[first:]:
            return f"{name} is {there} at the source, {here} here"
    further = [name for name in theirs if name not in own and not is_singular_vector(name)]
    return f"{further[0]} of the source is not in this network" if further else ""


def _class_rows(table, source, labels, new_classes):
    """The rows of this network's classes: those of the source, and for new classes their mean or the present ones."""
    rows, known = np.array(ops.convert_to_numpy(table)), labels >= 0
    rows[known] = source[labels[known]]
    if new_classes == "mean":
        rows[~known] = source.mean(axis=0, dtype=np.float64)
    return rows
