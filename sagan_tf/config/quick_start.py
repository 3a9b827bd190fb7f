"""The run of `python -m sagan_tf.train` without a config file; configs/quickstart.yaml says the same with comments."""

from sagan_tf.config.fields import (
    AttentionConfig,
    Config,
    DataConfig,
    DiscriminatorConfig,
    GeneratorConfig,
    HardwareConfig,
    OptimizerConfig,
    OutputConfig,
    TrainingConfig,
)

QUICK_START = Config(
    run="runs/quickstart",
    data=DataConfig(name="twins", image_size=32),
    generator=GeneratorConfig(channels=16, attention_sizes=(8, 16), batch_normalization_momentum=0.9),
    discriminator=DiscriminatorConfig(channels=16, attention_sizes=(8, 16)),
    attention=AttentionConfig(key_reduction=2, value_reduction=1),
    generator_optimizer=OptimizerConfig(
        learning_rate=1e-3, beta_2=0.99, schedule="linear", decay_start_step=2_400, final_learning_rate=4e-4
    ),
    discriminator_optimizer=OptimizerConfig(
        learning_rate=2e-3, beta_2=0.99, schedule="linear", decay_start_step=2_400, final_learning_rate=8e-4
    ),
    training=TrainingConfig(
        steps=4_800,
        batch_size=32,
        r1_weight=1.0,
        r1_interval=4,
        augmentation=("color",),
        ema_decay=0.998,
    ),
    hardware=HardwareConfig(precision="auto"),
    output=OutputConfig(log_interval=50, sample_interval=400, checkpoint_interval=400, checkpoints_to_keep=2),
)
