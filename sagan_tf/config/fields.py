"""The fields of a config. The defaults are those of the paper's ImageNet run where the paper gives a value.

The text of each field under `Args` is the help of its flag.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sagan_tf.config.checks import check_config
from sagan_tf.data.options import DataOptions as DataConfig


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """The attention block, at `attention_sizes` of both networks.

    Args:
        block: `self_attention`, or `residual`: the paper's control, a residual block of as many parameters (Table 1).
        key_reduction: The query and the key have channels // key_reduction channels.
        value_reduction: The value has channels // value_reduction channels (2: authors' code; 8: paper; 1: first
            arXiv version).
        pool_size: Size of the max-pooling of key and value (2: authors' code; 1, no pooling: paper).
        output_projection: 1x1 convolution after the weighted sum (false: first arXiv version, with value_reduction 1).
        spectral_normalization: Spectrally normalize the convolutions of the block.
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
        channels: Base width; the feature maps have 1 to 16 times this many channels.
        initial_channels: Channels of the first map, of the dense layer. null: by image_size, 4 to 16 times channels.
        latent_dim: Dimensions of a latent, drawn from N(0, 1).
        attention_sizes: Sizes in px of the feature maps with an attention block, among 4, 8 ... image_size, such as
            [32]; [] for none. Of images that are not square, the smaller side counts.
        spectral_normalization: Spectrally normalize every convolution and dense layer.
        batch_normalization_momentum: Decay of the moving statistics, which move in every training pass of the
            generator, also those that update the discriminator.
        batch_normalization_epsilon: Added to the variance.
        batch_statistics: Batch normalization on several replicas by the statistics of the `global` batch, as on one
            replica, or of each replica's own images, `local` (the authors' code; XLA needs it there).
        kernel_initializer: Keras initializer of all kernels.
        frozen_blocks: Last blocks, nearest to the image, that stay as `training.start_from` gave them, with the
            attention between them and the output layers (Zhao et al. 2020); class tables are trained.
    """

    channels: int = 64
    initial_channels: int | None = None
    latent_dim: int = 128
    attention_sizes: tuple[int, ...] = (32,)
    spectral_normalization: bool = True
    batch_normalization_momentum: float = 0.99
    batch_normalization_epsilon: float = 1e-5
    batch_statistics: Literal["global", "local"] = "global"
    kernel_initializer: Literal["glorot_uniform", "orthogonal"] = "glorot_uniform"
    frozen_blocks: int = 0


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminator.

    Args:
        channels: Base width; the feature maps have 1 to 16 times this many channels.
        attention_sizes: Sizes in px of the feature maps with an attention block, among image_size/2 ... 4 (only 16
            and 8 at 32 px), such as [32]; [] for none. Of images that are not square, the smaller side counts.
        spectral_normalization: Spectrally normalize every convolution, dense layer and embedding.
        hidden_channels: Width inside a residual block: that of its `output` (SAGAN) or its `input` (SNGAN projection).
        activate_skip: Apply the first ReLU of a block to its skip too (PyTorch-StudioGAN; not the authors' code).
        kernel_initializer: Keras initializer of all kernels.
        frozen_blocks: First blocks, nearest to the image, that stay as `training.start_from` gave them, with the
            attention after each (FreezeD, Mo et al. 2020).
    """

    channels: int = 64
    attention_sizes: tuple[int, ...] = (32,)
    spectral_normalization: bool = True
    hidden_channels: Literal["output", "input"] = "output"
    activate_skip: bool = False
    kernel_initializer: Literal["glorot_uniform", "orthogonal"] = "glorot_uniform"
    frozen_blocks: int = 0


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Adam and its learning rate schedule. Different rates of the two networks are TTUR (Heusel et al. 2017).

    Args:
        learning_rate: Peak learning rate.
        beta_1: Decay of the first moment.
        beta_2: Decay of the second moment (0.9: paper; 0.999: authors' code).
        epsilon: Added to the square root of the second moment.
        schedule: `constant`, or `linear` or `cosine` decay to `final_learning_rate` from `decay_start_step` to the end.
        warmup_steps: Optimizer steps over which the rate rises linearly from 0.
        decay_start_step: Optimizer step at which the decay starts; a run that ends earlier has no decay.
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
    """The training loop and the losses.

    Args:
        steps: Total number of generator steps.
        batch_size: Global batch size, over all replicas.
        d_steps: Discriminator updates per generator update.
        accumulation_steps: Batches whose gradients are averaged for one update; batch statistics are per batch.
        loss: Adversarial loss. `relativistic` (Huang et al. 2024, R3GAN, with R1 and R2) compares each real image with
            a generated one of its class, whatever `fake_labels` says.
        r1_weight: Gamma of the R1 penalty on real images, gamma/2 times the squared gradient norm (Mescheder et al.
            2018, equation 9); 0 for none.
        r2_weight: Gamma of R2, the same penalty on generated images (Huang et al. 2024, R3GAN: as r1_weight); 0 for
            none.
        r1_interval: Apply R1 and R2, which are taken at the augmented images, every this many discriminator updates,
            with their weights multiplied by it.
        lecam_weight: Weight of the LeCam penalty, for small data sets (Tseng et al. 2021: 0.3); 0 for none.
        lecam_decay: Decay per discriminator update of the running means of logits that LeCam compares with.
        lecam_start_step: Step at which the LeCam penalty starts.
        consistency_real_weight: Weight of balanced consistency regularization on real images, the squared change of the
            logit when the image is flipped and moved, for small data sets (Zhao et al. 2021: 10); 0 for none.
        consistency_fake_weight: The same on generated images (Zhao et al. 2021: 10).
        ada_target: Adaptive augmentation (ADA) instead of `augmentation`, for small data sets: the mean sign of real
            logits that its probability is adapted to (Karras et al. 2020: 0.6); 0 for none.
        ada_images: Real images that move the probability of ADA from 0 to 1 (Karras et al. 2020: 500,000).
        share_fake_batch: Train the generator on the images of the last discriminator update instead of new ones. The
            step is faster; random draws differ, and batch statistics move once less per step.
        augmentation: DiffAugment operations (Zhao et al. 2020) on real and generated images, such as
            [color, translation, cutout]; [] for none.
        fake_labels: Distribution of the labels of generated images: `uniform`, or that of the `data`.
        ema_decay: Decay per step of the generator's exponential moving average; null for no average.
        ema_start_step: Steps that copy the generator before averaging starts (BigGAN-PyTorch's ema_start minus 1).
        ema_statistics_interval: Steps between recomputations of the averaged generator's batch statistics, which a long
            average needs (Brock et al. 2019, standing statistics); 0 averages them like the weights.
        seed: Seed of the weights, the order of the data, the latents and the augmentation.
        start_from: Run folder, `generator.keras` of one, or hf://owner/name, whose weights the run starts from; those
            that fit are taken by name and shape, class tables by class name.
        new_classes: Tables of classes that `start_from` lacks: the `mean` of its classes, or `random`, freshly drawn.
    """

    steps: int = 1_000_000
    batch_size: int = 256
    d_steps: int = 1
    accumulation_steps: int = 1
    loss: Literal["hinge", "non_saturating", "wasserstein", "least_squares", "relativistic"] = "hinge"
    r1_weight: float = 0.0
    r2_weight: float = 0.0
    r1_interval: int = 1
    lecam_weight: float = 0.0
    lecam_decay: float = 0.99
    lecam_start_step: int = 1000
    consistency_real_weight: float = 0.0
    consistency_fake_weight: float = 0.0
    ada_target: float = 0.0
    ada_images: int = 500_000
    share_fake_batch: bool = False
    augmentation: tuple[Literal["color", "translation", "cutout"], ...] = ()
    fake_labels: Literal["uniform", "data"] = "uniform"
    ema_decay: float | None = 0.9999
    ema_start_step: int = 0
    ema_statistics_interval: int = 0
    seed: int = 0
    start_from: str | None = None
    new_classes: Literal["mean", "random"] = "mean"

    @property
    def images_per_step(self):
        """Real images of one step, over all replicas."""
        return self.batch_size * self.d_steps * self.accumulation_steps


@dataclass(frozen=True, kw_only=True)
class HardwareConfig:
    """Devices and precision.

    Args:
        precision: `float32`; `mixed_bfloat16` (for TPUs, GPUs from Ampere on, CPUs with AMX or AVX512_BF16);
            `mixed_float16`, with a dynamic loss scale (for GPUs without fast bfloat16: V100, T4); or `auto`,
            mixed_bfloat16 on devices that support it natively, else float32; a resumed run keeps its own. Weights are
            in float32.
        distribution: `auto` (all GPUs, mirrored if there are several), `single`, `mirrored` or `tpu`.
        replicas: Number of devices when mirrored; on a CPU, of logical devices; null for all GPUs.
        jit_compile: Compile the training step with XLA. `auto`: on one GPU; on several with `batch_statistics` local.
            The first step then takes longer.
        native_operations: Use our C++ operations, about 1.2 times as fast (CPU, one replica, mixed_bfloat16 only).
            Compiled once, in ten seconds, by a C++ compiler such as g++.
        steps_per_execution: Steps per call of the compiled function.
        tf32: Round the factors of float32 products and convolutions to 10 bits on GPUs from Ampere on, which is faster.
            Off as in StudioGAN, StyleGAN2-ADA and R3GAN; sigma is computed in full float32 in any case.
        deterministic: Only deterministic operations: a resumed run is bit-exact on GPUs too, at some cost of speed.
        wait_minutes: How long to wait for the other workers at the start.
    """

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    distribution: Literal["auto", "single", "mirrored", "tpu"] = "auto"
    replicas: int | None = None
    jit_compile: bool | Literal["auto"] = "auto"
    native_operations: bool = False
    steps_per_execution: int = 1
    tf32: bool = False
    deterministic: bool = False
    wait_minutes: float = 15.0


@dataclass(frozen=True, kw_only=True)
class OutputConfig:
    """What is written to the run folder, and when.

    Args:
        log_interval: Steps between two lines of metrics.jsonl.
        sample_interval: Steps between two sample grids.
        checkpoint_interval: Steps between two checkpoints; a multiple of log_interval.
        checkpoints_to_keep: Number of newest checkpoints to keep.
        sample_rows: Rows of the sample grid; with classes one per class, and at most this many.
        sample_columns: Columns of the sample grid.
        tensorboard: What to write for TensorBoard: `none`, `scalars`, also `pictures`, or also weight `histograms`.
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
    """What to do when training fails, checked with every line of metrics.

    Args:
        on_divergence: If a loss or weight is not finite: `stop` at the last good checkpoint, or `recover`, that is,
            continue from it with lower learning rates.
        on_collapse: If the discriminator tells all images apart, guesses or gives all the same logit, or the generated
            images become alike: `warn`, `stop` or `recover`.
        rate_factor: Factor on both learning rates at each recovery.
        max_recoveries: Number of recoveries after which the run stops.
    """

    on_divergence: Literal["stop", "recover"] = "stop"
    on_collapse: Literal["warn", "stop", "recover"] = "warn"
    rate_factor: float = 0.5
    max_recoveries: int = 3


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluation of the averaged generator during training; the best one is kept.

    Args:
        interval: Steps between two evaluations; 0 for none.
        num_samples: Generated samples to compare with the data.
        features: Feature network, `PATH` or `PATH:NAME`: Keras file and layer, or SavedModel and output; null for
            Inception, the network of FID.
        inception: Folder or archive of TF-GAN's Inception; null for the cache, filled by one download.
        pixel_range: Pixel range that the network of `features` expects.
        split: Split to compare with; null for that of training.
    """

    interval: int = 0
    num_samples: int = 10_000
    features: str | None = None
    inception: str | None = None
    pixel_range: Literal["-1,1", "0,1", "0,255"] = "-1,1"
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """The config of a run.

    Args:
        run: Run folder; null for runs/ and the name of the (last) config file.
        data: The data set.
        generator: The generator.
        discriminator: The discriminator.
        attention: The attention block of both networks.
        generator_optimizer: Adam of the generator.
        discriminator_optimizer: Adam of the discriminator (TTUR: four times the learning rate of the generator).
        training: The training loop and the losses.
        hardware: Devices and precision.
        output: What is written to the run folder, and when.
        guard: What to do when training fails.
        evaluation: Evaluation of the averaged generator during training.
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
