"""The options of every command but `train`: one dataclass each, from which `option_parser` makes parser and help."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jsonargparse.typing import restricted_number_type, restricted_string_type

from sagan_tf.commands.option_parser import positional
from sagan_tf.data.options import Corrupt, Resize
from sagan_tf.errors import UserError
from sagan_tf.evaluation.defaults import BATCH_SIZE, KEPT_IMAGES, PIXEL_RANGE, PIXEL_RANGES
from sagan_tf.evaluation.metric_names import IMAGE_METRICS, METRICS
from sagan_tf.export.format_names import FORMAT_NAMES
from sagan_tf.generation.truncation import NO_TRUNCATION
from sagan_tf.serving.limits import Limits

# Restricted types of jsonargparse; the docstring names the type in an error line.
_LARGEST = 2**62 - 1  # fits 64 bits with room for sums


def _whole_numbers(name, first, last=_LARGEST):
    limits = [(">=", first), ("<=", last)]
    return restricted_number_type(name, int, limits, docstring=f"a whole number from {first} to {last}")


WholeNumber = _whole_numbers("WholeNumber", 0)
Count = _whole_numbers("Count", 1)
Columns = _whole_numbers("Columns", 1, 1000)
TwoOrMore = _whole_numbers("TwoOrMore", 2)
Version = _whole_numbers("Version", 1, 2**63 - 1)  # as `export.model_versions.MAX_VERSION`
ImageSize = _whole_numbers("ImageSize", 1, 1024)
Quality = _whole_numbers("Quality", 1, 100)
Port = restricted_number_type("Port", int, [(">=", 0), ("<", 2**16)], docstring="a port, 0 to 65535")
_FINITE = ("<", float("inf"))
PositiveNumber = restricted_number_type(
    "PositiveNumber", float, [(">", 0), _FINITE], docstring="a finite number above 0"
)
NonNegativeNumber = restricted_number_type(
    "NonNegativeNumber", float, [(">=", 0), _FINITE], docstring="a finite number from 0"
)
TRUNCATION_CURVE = (0.4, 0.7, 1.0, 1.5, 2.0)
# Beyond these, gRPC and sockets, which count in 32 bits, or the alarm at the end would fail.
Connections = _whole_numbers("Connections", 1, 10**6)
_SECONDS = ("<=", 1e6)
Seconds = restricted_number_type(
    "Seconds", float, [(">", 0), _SECONDS], docstring="a number of seconds above 0, up to 1,000,000"
)
DrainSeconds = restricted_number_type(
    "DrainSeconds", float, [(">=", 0), _SECONDS], docstring="a number of seconds from 0 to 1,000,000"
)
BodySize = restricted_number_type(
    "BodySize", float, [(">", 0), ("<", 2048)], docstring="a number of MiB above 0 and below 2048"
)
ModelName = restricted_string_type(
    "ModelName",
    r"[A-Za-z0-9_-][A-Za-z0-9_.-]*\Z",
    docstring="a model name: letters, digits, `_`, `-` and `.`, but no leading `.`",
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Measures FID, KID and more of a run's generator, or of a folder of images.

    Args:
        subject: Run folder, hf://owner/name, or folder of images.
        num_samples: Generated samples.
        seed: Seed of the first sample.
        truncation: Largest absolute entry of a latent; the default keeps the whole normal distribution.
        truncation_curve: Also measure fid and is of equally many samples at each of these truncations, and draw both.
        labels: Classes of the samples: equally likely (`uniform`), or as often as in the data (`data`).
        step: Step of the checkpoint. Defaults to the newest.
        best: Take the best generator of the evaluations during training.
        standing: Recompute the batch statistics from this many batches; 0 keeps those of training.
        reference: Data set, folder, or .npz file of statistics to measure against. Defaults to the data of training.
        split: Split of the reference. Defaults to that of training.
        image_size: Size in px of the images of a folder, cropped to squares. Defaults to the shorter side of the first.
        image_height: Height in px of the images of a folder that are not square, with --image_width.
        image_width: Width in px; see --image_height.
        data_dir: Folder of prepared TensorFlow Datasets.
        manual_dir: Folder of manually downloaded archives.
        download: Let TensorFlow Datasets download the data set.
        allow_data_change: Measure against the data of training although they have changed.
        metrics: Metrics, separated by commas. Defaults to all that apply.
        at_infinity: Also extrapolate FID to infinitely many samples.
        features: Feature network in place of Inception: Keras file and layer, or SavedModel and output.
        pixel_range: Pixel range that the network of --features expects.
        inception: TF-GAN's Inception, folder or archive. Defaults to the cache, filled by one download.
        inception_sha256: SHA-256 that the Inception must have.
        num_reference: Images of the reference whose features are kept for pairwise metrics; FID uses all.
        batch_size: Images per device and batch.
        replicas: Number of devices. Defaults to all GPUs, or the CPU.
        refresh: Recompute the cached statistics of the data.
        out: Folder to write to. Defaults to RUN/evaluation, to ./hub/OWNER/NAME[@REVISION]/evaluation for hf://, or to
            ./evaluation for a folder of images.
    """

    subject: str = positional("RUN")
    num_samples: TwoOrMore = 50_000
    seed: WholeNumber = 0
    truncation: PositiveNumber = NO_TRUNCATION
    truncation_curve: tuple[PositiveNumber, ...] = field(default=(), metadata={"bare": TRUNCATION_CURVE})
    labels: Literal["uniform", "data"] = "uniform"
    step: WholeNumber | None = None
    best: bool = False
    standing: WholeNumber = 0
    reference: str | None = None
    split: str | None = None
    image_size: Count | None = None
    image_height: Count | None = None
    image_width: Count | None = None
    data_dir: str | None = None
    manual_dir: str | None = None
    download: bool = False
    allow_data_change: bool = False
    metrics: tuple[Literal[*METRICS, *IMAGE_METRICS], ...] | None = None
    at_infinity: bool = False
    features: str | None = field(default=None, metadata={"metavar": "PATH[:NAME]"})
    pixel_range: Literal[*PIXEL_RANGES] = PIXEL_RANGE
    inception: str | None = None
    inception_sha256: str | None = None
    num_reference: TwoOrMore = KEPT_IMAGES
    batch_size: Count = BATCH_SIZE
    replicas: Count | None = None
    refresh: bool = False
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Writes images of a run's averaged generator, by class and seed.

    Args:
        run: Run folder, or hf://owner/name.
        pretrained: Weights that come with the package, twins or cifar10, in place of a run folder.
        out: Folder to write to. Defaults to RUN/pictures, to ./hub/OWNER/NAME[@REVISION]/pictures for hf://, or to
            ./pretrained/NAME/pictures for --pretrained.
        step: Step of the checkpoint. Defaults to the newest.
        seed: First seed; each seed is one latent.
        classes: Names or numbers of classes, separated by commas, or all. Defaults to the first 10.
        columns: Seeds per class.
        truncation: Largest absolute entry of a latent; the default keeps the whole normal distribution.
        sweep: Draw one latent at these truncations, such as 0.3,0.6,1,2,6.
        interpolate: Draw strips between latents, between classes, or both.
        directions: Draw strips along this many directions of the latent, those that the first layer stretches most.
        distance: Length of these strips to either side, in standard deviations of the latent.
        frames: Images per strip.
        animate: Also write interpolations and directions as animations in this format; mp4 needs imageio-ffmpeg.
        files: Write this many single PNG files, the classes in turn; the workers of TF_CONFIG share them.
    """

    run: str | None = positional("RUN", default=None, nargs="?")
    pretrained: str | None = None
    out: Path | None = None
    step: WholeNumber | None = None
    seed: WholeNumber = 0
    classes: tuple[str, ...] | None = None
    columns: Columns = 8
    truncation: PositiveNumber = NO_TRUNCATION
    sweep: tuple[PositiveNumber, ...] = ()
    interpolate: tuple[Literal["latents", "classes"], ...] = ()
    directions: Count | None = None
    distance: PositiveNumber = 3.0
    frames: TwoOrMore = 9
    animate: Literal["gif", "webp", "mp4"] | None = None
    files: Count | None = None


def image_sides(options):
    """The fields of an `EvaluateOptions` or `PrepareOptions` that give the size of images, see `DataOptions`."""
    if (options.image_height is None) != (options.image_width is None):
        given, other = ("width", "height") if options.image_height is None else ("height", "width")
        raise UserError(f"--image_{given}: give --image_{other} too.")
    if options.image_size is not None and options.image_height is not None:
        raise UserError("--image_size: sets a square; give it, or --image_height and --image_width, not both.")
    names = ("image_size",) if options.image_height is None else ("image_height", "image_width")
    return {name: getattr(options, name) for name in names if getattr(options, name) is not None}


def read_points(text):
    """Reads query points written as `3,10;20,5`: a tuple of (x, y)."""
    points = []
    for pair in text.split(";"):
        numbers = [number.strip() for number in pair.split(",")]
        if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise UserError(f"--points: `{pair}` is not a point. Write points as 3,10;20,5, in px from the top left.")
        points.append(tuple(map(int, numbers)))
    return tuple(points)


@dataclass(frozen=True, kw_only=True)
class AttendOptions:
    """Draws and measures the attention maps of generator and discriminator.

    Args:
        run: Run folder, or hf://owner/name.
        pretrained: Weights that come with the package, twins or cifar10, in place of a run folder: a generator alone.
        out: Folder to write to. Defaults to RUN/attention, to ./hub/OWNER/NAME[@REVISION]/attention for hf://, or to
            ./pretrained/NAME/attention for --pretrained.
        network: Network to look into. Defaults to both.
        pictures: Images to show it. Defaults to both; the discriminator alone sees real ones.
        layers: Attention layers, separated by commas, such as attention_32. Defaults to all.
        step: Step of the checkpoint, or all for one row per step. Defaults to the newest.
        points: Query points in px of the image, also in the files' names. Defaults to five, spread over its contents.
        images: Number of images drawn. Defaults to 4, to 2 with --step all, and to 16 in the explorer.
        measured: Number of images measured. Defaults to 32.
        columns: Images with their maps side by side.
        seed: Seed of the first image.
        truncation: Largest absolute entry of a latent; the default keeps the whole normal distribution.
        classes: Names or numbers of classes, separated by commas, or all. Defaults to the first 10.
        npz: Also write images, points and maps as arrays.
        explorer: Also write an interactive HTML file.
    """

    run: str | None = positional("RUN", default=None, nargs="?")
    pretrained: str | None = None
    out: Path | None = None
    network: Literal["generator", "discriminator"] | None = None
    pictures: Literal["generated", "real"] | None = None
    layers: tuple[str, ...] | None = None
    step: WholeNumber | Literal["all"] | None = None
    points: tuple[tuple[int, int], ...] | None = field(
        default=None, metadata={"metavar": "X,Y;X,Y", "read": read_points}
    )
    images: Count | None = None
    measured: Count | None = None
    columns: Columns = 1
    seed: WholeNumber = 0
    truncation: PositiveNumber = NO_TRUNCATION
    classes: tuple[str, ...] | None = None
    npz: bool = False
    explorer: bool = False


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Decodes, crops and resizes a data set once, into a folder that --data.name reads fast and at random.

    Args:
        source: Folder of images, or a TensorFlow Datasets name, as --data.name takes.
        out: Folder to write; the same command continues an interrupted one, and checks and repairs a complete one.
        split: Splits, separated by commas, each into a folder of its own; those of --data.split.
        image_size: Height and width in px of square images, after the central crop and resize. Defaults to 128.
        image_height: Height in px of images that are not square, with --image_width in place of --image_size.
        image_width: Width in px; see --image_height.
        image_channels: 1 (gray) or 3 (RGB).
        resize: Resize filter, antialiased.
        encoding: Pixels as they are (raw), the same in less space (png), or with loss (jpeg).
        quality: Quality of jpeg. Defaults to 95.
        corrupt: `stop` at unreadable images of a folder, or `skip` and list them; other sources always stop.
        data_dir: Folder of prepared TensorFlow Datasets.
        manual_dir: Folder of manually downloaded archives.
        download: Let TensorFlow Datasets download the data set.
    """

    source: str = positional("SOURCE")
    out: Path
    split: tuple[str, ...] = ("train",)
    image_size: ImageSize | None = None
    image_height: ImageSize | None = None
    image_width: ImageSize | None = None
    image_channels: Literal["1", "3"] = "3"
    resize: Resize = "bilinear"
    encoding: Literal["raw", "png", "jpeg"] = "raw"
    quality: Quality | None = None
    corrupt: Corrupt = "stop"
    data_dir: str | None = None
    manual_dir: str | None = None
    download: bool = False


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Makes a run folder from checkpoints of the SAGANs of other repositories in PyTorch, or the reverse.

    Args:
        generator: Checkpoint of the generator: .pth of torch.save, .safetensors or .npz; with `to`, a run folder or
            hf://owner/name.
        discriminator: Checkpoint of the discriminator. Defaults to a new one.
        out: Folder to write.
        to: Write the networks of a run as state dicts of this implementation.
        data: Data set that the networks were trained on.
        channel_order: Order of the channels of the images, which mmagic's files do not say.
        relu_in_place: Whether the ReLUs of a discriminator work in place, which mmagic's files do not say.
    """

    generator: str = positional()
    discriminator: str | None = positional(default=None, nargs="?")
    out: Path
    to: Literal["biggan_pytorch"] | None = None
    data: str = "imagenet2012"
    channel_order: Literal["rgb", "bgr"] | None = None
    relu_in_place: Literal["yes", "no"] | None = None


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Writes the page of a run, or of several side by side.

    Args:
        runs: Run folder, or hf://owner/name; it may still be training.
        out: File to write. Defaults to RUN/report.html, or ./comparison.html for several runs.
    """

    runs: tuple[str, ...] = positional("RUN", nargs="+")
    out: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Exports a run's averaged generator.

    Args:
        run: Run folder, or hf://owner/name.
        pretrained: Weights that come with the package, twins or cifar10, in place of a run folder.
        out: Folder to write to; it may exist.
        formats: Formats, separated by commas.
        name: Name of the served model.
        version: Version of the served model. Defaults to the next free one.
        node_modules: LiteRT.js for `web`. Defaults to a download by npm, once.
    """

    run: str | None = positional("RUN", default=None, nargs="?")
    pretrained: str | None = None
    out: Path
    formats: tuple[Literal[*FORMAT_NAMES], ...] = ("saved_model", "tflite", "keras")
    name: ModelName = "sagan"
    version: Version | None = None
    node_modules: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PushOptions:
    """Uploads a run's averaged generator to the Hugging Face Hub, with its model card, as one commit.

    Args:
        run: Run folder, or hf://owner/name.
        name: Repository, hf://owner/name, made if there is none; a revision, as in hf://owner/name@v1, becomes a tag.
        checkpoint: Also upload the newest checkpoint, with the discriminator, from which other runs can start.
        license: License of the weights for the card, such as apache-2.0. Defaults to none: it depends on the data.
        private: Make a new repository private.
    """

    run: str = positional("RUN")
    name: str = positional("hf://OWNER/NAME")
    checkpoint: bool = False
    license: str | None = None
    private: bool = False


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Serves exported models over TensorFlow Serving's REST and gRPC API, for development.

    Args:
        folder: MODEL with MODEL/<number>/, a folder of such, or an export; or hf://owner/name, which is exported first.
        pretrained: Weights that come with the package, twins or cifar10, in place of a folder.
        host: Address to listen on; the default is reachable from this machine alone.
        rest_port: HTTP port; 0 for a free one.
        port: gRPC port; 0 for a free one.
        max_batch_size: Largest number of rows in a batch and in a request.
        batch_timeout_ms: Milliseconds that a request waits for others.
        parallel_batches: Full batches that run at a time.
        max_enqueued_batches: Full batches that may wait.
        max_body_mb: Largest request in MiB.
        poll_seconds: Seconds between checks for new versions.
        drain_seconds: Seconds that running requests have to end when the server stops.
        allow_any_graph: Load any SavedModel; without it, one with other operations than exports have is refused, since
            it could read and write files.
        max_connections: Connections per protocol.
        client_timeout_seconds: Seconds to wait for a client that is idle, sends slowly or does not read.
        allowed_hosts: Names besides localhost and addresses that requests may use for this server in their Host header.
    """

    folder: str | None = positional("DIR", default=None, nargs="?")
    pretrained: str | None = None
    host: str = "127.0.0.1"
    rest_port: Port = field(default=8501, metadata={"alias": "rest_api_port"})
    port: Port = 8500
    max_batch_size: Count = Limits.max_batch_size
    batch_timeout_ms: NonNegativeNumber = 1e3 * Limits.batch_timeout
    parallel_batches: Count = Limits.parallel_batches
    max_enqueued_batches: Count = Limits.max_enqueued_batches
    max_body_mb: BodySize = Limits.max_body / 2**20
    poll_seconds: Seconds = Limits.poll_interval
    drain_seconds: DrainSeconds = Limits.drain
    allow_any_graph: bool = Limits.allow_any_graph
    max_connections: Connections = Limits.max_connections
    client_timeout_seconds: Seconds = Limits.client_timeout
    allowed_hosts: tuple[str, ...] = Limits.allowed_hosts
