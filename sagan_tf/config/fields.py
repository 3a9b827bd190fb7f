"""The fields of a run's description. The defaults are the paper's ImageNet run where the paper gives a value.

The text behind each name under `Args` is the help of its flag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sagan_tf.config.checks import check_config
from sagan_tf.data.options import DataOptions as DataConfig


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """The block that stands at `attention_sizes` of both networks.

    Args:
        block: `self_attention`, or `residual`: the paper's control, a residual block with as many parameters (Table 1).
        key_reduction: Query and key have channels // key_reduction channels.
        value_reduction: Value has channels // value_reduction channels (2: authors' code; 8: paper; 1: first arXiv
            version).
        pool_size: Max-pooling of key and value (2: authors' code; 1, none: paper).
        output_projection: 1x1 convolution after the weighted sum (False: first arXiv version; needs value_reduction 1).
        spectral_normalization: Normalise the block's convolutions.
    """

    block: Literal["self_attention", "residual"] = "self_attention"
    key_reduction: int = 8
    value_reduction: int = 2
    pool_size: int = 2
    output_projection: bool = True
    spectral_normalization: bool = True


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """The generator.

    Args:
        channels: Base width; the feature maps have 1 to 16 times as many channels.
        latent_dim: Dimensions of the latent, drawn from N(0, 1).
        attention_sizes: Feature maps (px: 4, 8 ... image_size) that get an attention block, such as [32]; [] for none.
        spectral_normalization: Normalise every convolution and dense layer.
        batch_normalization_momentum: Decay of the moving statistics of batch normalisation, once a generator step.
        batch_normalization_epsilon: Added to the variance in batch normalisation.
        kernel_initializer: Keras name of the initialiser of all kernels.
    """

    channels: int = 64
    latent_dim: int = 128
    attention_sizes: tuple[int, ...] = (32,)
    spectral_normalization: bool = True
    batch_normalization_momentum: float = 0.99
    batch_normalization_epsilon: float = 1e-5
    kernel_initializer: Literal["glorot_uniform", "orthogonal"] = "glorot_uniform"


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminator.

    Args:
        channels: Base width; the feature maps have 1 to 16 times as many channels.
        attention_sizes: Feature maps (px: image_size/2 ... 4; at 32 px only 16 and 8) that get an attention block,
            such as [32]; [] for none.
        spectral_normalization: Normalise every convolution, dense layer and embedding.
        hidden_channels: Width inside a residual block: that of its `output` (SAGAN) or its `input` (SNGAN-projection).
        activate_skip: Give the skip of a block the ReLU of its input (PyTorch-StudioGAN; the authors' code does not).
        kernel_initializer: Keras name of the initialiser of all kernels.
    """

    channels: int = 64
    attention_sizes: tuple[int, ...] = (32,)
    spectral_normalization: bool = True
    hidden_channels: Literal["output", "input"] = "output"
    activate_skip: bool = False
    kernel_initializer: Literal["glorot_uniform", "orthogonal"] = "glorot_uniform"


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its learning-rate schedule; the rates of both networks together are TTUR (Heusel et al. 2017).

    Args:
        learning_rate: Peak learning rate.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment (0.9: paper; 0.999: authors' code).
        epsilon: Added to the root of the second moment.
        schedule: `constant`, or `linear` or `cosine` decay to `final_learning_rate` from `decay_start_step` to the end.
        warmup_steps: Optimiser steps over which the rate rises linearly from 0.
        decay_start_step: Optimiser step at which the decay starts; a run that ends before it has none.
        final_learning_rate: Learning rate at the end of the decay.
    """

    learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.9
    epsilon: float = 1e-8
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    decay_start_step: int = 0
    final_learning_rate: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The adversarial game.

    Args:
        steps: Generator steps in all.
        batch_size: Pictures over all replicas, for each batch of a discriminator or generator update.
        d_steps: Discriminator updates a generator update.
        accumulation_steps: Batches whose gradients are averaged before an update (batch statistics stay those of a
            batch).
        loss: Adversarial loss.
        r1_weight: Gamma of the R1 penalty on real pictures, gamma/2 times the squared gradient norm (Mescheder et al.
            2018, equation 9); 0 for none.
        r1_interval: Discriminator updates from one R1 penalty to the next, its weight multiplied by as much.
        share_fake_batch: Train the generator on the pictures that the discriminator has just seen, not on new ones: a
            faster step, but other random draws, and batch statistics that move once a step less.
        augmentation: DiffAugment operations (Zhao et al. 2020) on real and generated pictures, such as
            [color, translation, cutout]; [] for none.
        fake_labels: Draw labels of generated pictures `uniform` or as often as in the `data`.
        ema_decay: Decay a step of the averaged generator; null for none.
        ema_start_step: Step from which the generator is averaged; before it the average is a copy.
        seed: Seed of the weights, the order of the data, latents and augmentation.
    """

    steps: int = 1_000_000
    batch_size: int = 256
    d_steps: int = 1
    accumulation_steps: int = 1
    loss: Literal["hinge", "non_saturating", "wasserstein", "least_squares"] = "hinge"
    r1_weight: float = 0.0
    r1_interval: int = 1
    share_fake_batch: bool = False
    augmentation: tuple[Literal["color", "translation", "cutout"], ...] = ()
    fake_labels: Literal["uniform", "data"] = "uniform"
    ema_decay: float | None = 0.9999
    ema_start_step: int = 0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """What it runs on.

    Args:
        precision: `float32`, or `mixed_bfloat16` (weights stay float32; CPU with AMX, Ampere, Hopper, TPU).
        distribution: `auto` (all GPUs, mirrored where there are several), `single`, `mirrored` or `tpu`.
        replicas: Devices to use when mirrored; on a CPU, logical devices to make; null for all GPUs.
        jit_compile: Compile the step with XLA (one device).
        native_operations: Operations of our own on a CPU in mixed_bfloat16 (one device): some 1.2 times the speed.
            Needs a C++ compiler such as g++, for ten seconds, once.
        steps_per_execution: Steps run in one call of the graph.
    """

    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    distribution: Literal["auto", "single", "mirrored", "tpu"] = "auto"
    replicas: int | None = None
    jit_compile: bool = False
    native_operations: bool = False
    steps_per_execution: int = 1


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What the run folder receives, and when.

    Args:
        log_interval: Steps from one line of metrics.jsonl to the next.
        sample_interval: Steps from one picture of samples to the next.
        checkpoint_interval: Steps from one checkpoint to the next; a multiple of log_interval.
        checkpoints_to_keep: Newest checkpoints kept.
        sample_rows: Rows of the sample grid; with classes, a row a class as far as they reach.
        sample_columns: Columns of the sample grid.
        tensorboard: What TensorBoard gets: `none`, `scalars`, `pictures` too, or `histograms` of all weights too.
    """

    log_interval: int = 100
    sample_interval: int = 1_000
    checkpoint_interval: int = 1_000
    checkpoints_to_keep: int = 3
    sample_rows: int = 8
    sample_columns: int = 8
    tensorboard: Literal["none", "scalars", "pictures", "histograms"] = "scalars"


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """What to do when training goes wrong. It is looked at with every line of metrics.

    Args:
        on_divergence: A loss or weight that is not finite: `stop` at the last good checkpoint, or `recover`: go back to
            it and on with lower learning rates.
        on_collapse: A discriminator that tells all pictures apart, or pictures that become alike: `warn`, `stop` or
            `recover`.
        rate_factor: What both learning rates are multiplied by at each recovery.
        max_recoveries: Recoveries of a run; then it stops.
    """

    on_divergence: Literal["stop", "recover"] = "stop"
    on_collapse: Literal["warn", "stop", "recover"] = "warn"
    rate_factor: float = 0.5
    max_recoveries: int = 3


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How good the averaged generator is, measured as training goes on; the best one is kept.

    Args:
        interval: Steps from one measurement to the next; 0 for none.
        num_samples: Samples that are compared with the data.
        features: `PATH` or `PATH:NAME` of a Keras file and a layer, or of a SavedModel and an output, that pictures are
            compared by; null for Inception, which FIDs are made with.
        inception: Folder or archive of TF-GAN's Inception; null: from the cache, or fetched into it.
        pixel_range: What `features` takes black and white for.
        split: Split to compare with; null: that of training.
    """

    interval: int = 0
    num_samples: int = 10_000
    features: str | None = None
    inception: str | None = None
    pixel_range: Literal["-1,1", "0,1", "0,255"] = "-1,1"
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run.

    Args:
        run: Run folder; null: runs/ and the name of the (last) config file.
        data: The pictures.
        generator: The generator.
        discriminator: The discriminator.
        attention: The attention block of both.
        generator_optimizer: Adam of the generator.
        discriminator_optimizer: Adam of the discriminator (TTUR: four times the generator's learning rate).
        training: The adversarial game.
        hardware: What it runs on.
        output: What the run folder receives, and when.
        guard: What to do when training goes wrong.
        evaluation: How good the averaged generator is, measured as training goes on.
    """

    run: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    generator_optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    discriminator_optimizer: OptimizerConfig = field(default_factory=lambda: OptimizerConfig(learning_rate=4e-4))
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self):
        check_config(self)
