"""The studies: which runs they consist of. A run is a study, an arm and a seed; an arm is a set of flags of `train`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """Runs that are compared.

    Args:
        name: str, a folder name.
        question: str, what it answers.
        flags: dict of flags of `sagan_tf.train` that all arms share.
        arms: dict, name of an arm -> dict of its flags.
        seeds: tuple of ints.
        scored_steps: int, steps between two scores.
    """

    name: str
    question: str
    flags: dict
    arms: dict
    seeds: tuple
    scored_steps: int = 500

    def runs(self):
        """Lists (arm, seed), all arms of a seed before the next seed, so that an unfinished study compares arms."""
        return [(arm, seed) for seed in self.seeds for arm in self.arms]


# The first quick start with all that it set, so that the studies stay as they are. No arm was tuned.
RECIPE = {
    "data.image_size": 32,
    "generator.channels": 16,
    "generator.attention_sizes": [16],
    "generator.batch_normalization_momentum": 0.9,
    "discriminator.channels": 16,
    "discriminator.attention_sizes": [16],
    "attention.key_reduction": 8,
    "attention.value_reduction": 2,
    **{f"{network}_optimizer.{name}": value for network in ("generator", "discriminator") for name, value in {
        "beta_2": 0.99, "schedule": "linear", "decay_start_step": 1000}.items()},
    "generator_optimizer.learning_rate": 1e-3,
    "generator_optimizer.final_learning_rate": 5e-5,
    "discriminator_optimizer.learning_rate": 2e-3,
    "discriminator_optimizer.final_learning_rate": 1e-4,
    "training.steps": 2000,
    "training.batch_size": 32,
    "training.loss": "hinge",
    "training.r1_weight": 0.0,
    "training.r2_weight": 0.0,
    "training.r1_interval": 1,
    "training.share_fake_batch": False,
    "training.augmentation": ["color", "translation"],
    "training.ema_decay": 0.99,
    "hardware.precision": "mixed_bfloat16",
    "hardware.native_operations": True,
    "output.log_interval": 100,
    "output.sample_interval": 1000,
    "output.checkpoint_interval": 500,
    "output.checkpoints_to_keep": 1,
    "output.tensorboard": "none",
}  # fmt: skip
NONE, RESIDUAL = [], "residual"


def attention_arms(sizes):
    """The arms of the paper's Table 1: attention or its residual control in maps of each size, and neither."""
    arms = {"none": {"generator.attention_sizes": NONE, "discriminator.attention_sizes": NONE}}
    for size in sizes:
        places = {"generator.attention_sizes": [size], "discriminator.attention_sizes": [size]}
        arms[f"attention_{size}"] = places
        arms[f"residual_{size}"] = {**places, "attention.block": RESIDUAL}
    return arms


# The rates of the two networks with and without TTUR, at the same geometric mean.
_TTUR = {"generator_optimizer.learning_rate": 1e-3, "discriminator_optimizer.learning_rate": 2e-3}
_EQUAL = {"generator_optimizer.learning_rate": 1.414e-3, "discriminator_optimizer.learning_rate": 1.414e-3}
_NO_ATTENTION = {"generator.attention_sizes": NONE, "discriminator.attention_sizes": NONE}


def _normalized(generator, discriminator):
    return {"generator.spectral_normalization": generator, "discriminator.spectral_normalization": discriminator}


# Spectral normalization and the rates, as in the paper's Figure 3.
_STABILITY = {
    "none": {**_normalized(False, False), **_EQUAL},
    "discriminator": {**_normalized(False, True), **_EQUAL},
    "discriminator_ttur": {**_normalized(False, True), **_TTUR},
    "both": {**_normalized(True, True), **_EQUAL},
    "both_ttur": {**_normalized(True, True), **_TTUR},
}


def _faster(arms, factors):
    """The arms at multiples of their rates."""
    return {
        f"{arm}_{factor}": flags
        | {key: factor * value for key, value in flags.items() if key.endswith("learning_rate")}
        for factor in factors
        for arm, flags in arms.items()
    }


def _schedule(steps, ema_decay):
    """Constant rates for half of the steps, then a linear decay."""
    decay = {f"{network}_optimizer.decay_start_step": steps // 2 for network in ("generator", "discriminator")}
    return {"training.steps": steps, "training.ema_decay": ema_decay, **decay}


def _widths(generator, discriminator):
    return {"generator.channels": generator, "discriminator.channels": discriminator}


def _rates(generator, discriminator):
    return {"generator_optimizer.learning_rate": generator, "discriminator_optimizer.learning_rate": discriminator}


# Penalties on every fourth update cost little.
_R1 = {"training.r1_weight": 0.1, "training.r1_interval": 4}
_STRONG_R1 = {**_R1, "training.r1_weight": 0.5}
_RELATIVISTIC = {"training.loss": "relativistic", **_STRONG_R1, "training.r2_weight": 0.5}
_RELATIVISTIC_HALF = {"training.loss": "relativistic", "training.r1_weight": 0.5, "training.r2_weight": 0.5}
# Where the quick start before this one, to which later studies refer, differs from the config.
_HINGE_QUICK_START = {
    "config": "quickstart",
    "hardware.native_operations": True,
    "training.loss": "hinge",
    "training.r1_weight": 1.0,
    "training.r2_weight": 0.0,
    **_schedule(4800, 0.998),
}
_LONG = _schedule(3600, 0.996)
_FAST = _rates(2e-3, 4e-3)
# At 16 px there are only 64 and 32 channels.
_WIDE = {"attention.key_reduction": 2, "attention.value_reduction": 1}
_COLOR = {"training.augmentation": ["color"]}

# Candidates for the quick start. The recipe is fixed on the seeds from 100 on, and tested on others.
_CANDIDATES = {
    "base": {},
    "unshared": {"training.share_fake_batch": False},
    "r1": _R1,
    "translation": {"training.augmentation": ["translation"]},
    "relativistic": _RELATIVISTIC,
    "batch_64_r1": {**_R1, "training.batch_size": 64, **_schedule(1300, 0.99)},
    "long_batch_64_r1": {**_R1, "training.batch_size": 64, **_schedule(2000, 0.995)},
    "long_r1": {**_R1, **_schedule(3200, 0.996)},
    "fast_long_r1": {**_R1, **_LONG, **_FAST},
    "wide_attention_long_r1": {**_R1, **_LONG, **_WIDE},
    "fast_wide_r1": {**_R1, **_LONG, **_FAST, **_WIDE},
    "fast_wide_strong_r1": {**_STRONG_R1, **_LONG, **_FAST, **_WIDE},
    "wide_attention_strong_r1": {**_STRONG_R1, **_LONG, **_WIDE},
    "wide_attention_strong_r1_high_end": {
        **_STRONG_R1, **_LONG, **_WIDE,
        "generator_optimizer.final_learning_rate": 2e-4, "discriminator_optimizer.final_learning_rate": 4e-4,
    },
    "wide_all_strong_r1": {**_STRONG_R1, **_schedule(3000, 0.996), **_WIDE, "discriminator.channels": 32},
    "wide_attention_strong_r1_plain": {**_STRONG_R1, **_LONG, **_WIDE, "training.augmentation": []},
    "wide_attention_strong_r1_color": {**_STRONG_R1, **_LONG, **_WIDE, **_COLOR},
    "wide_attention_stronger_r1_color": {**_STRONG_R1, **_LONG, **_WIDE, **_COLOR, "training.r1_weight": 1.0},
    "wide_attention_relativistic": {**_RELATIVISTIC, **_LONG, **_WIDE},
    "wide_attention_relativistic_weak_r1": {
        **_RELATIVISTIC, **_LONG, **_WIDE, "training.r1_weight": 0.1, "training.r2_weight": 0.1,
    },
    "wide_attention_relativistic_color": {
        **_RELATIVISTIC, **_LONG, **_WIDE, **_COLOR, "training.r1_weight": 0.2, "training.r2_weight": 0.2,
    },
}  # fmt: skip

# The second search, from the best of the first.
_SECOND = {**RECIPE, "data.name": "twins", **_STRONG_R1, **_WIDE, **_COLOR, "training.share_fake_batch": True}
_NARROW = {"attention.key_reduction": 8, "attention.value_reduction": 2}
_SHARED, _UNSHARED = ({"training.share_fake_batch": is_shared} for is_shared in (True, False))
_TWO = {"generator.attention_sizes": [8, 16], "discriminator.attention_sizes": [8, 16]}
_BALANCED = {**_TWO, **_UNSHARED, "generator.channels": 12, "discriminator.channels": 24}
_SECOND_CANDIDATES = {
    "base": {},
    "unshared": _UNSHARED,
    "two_attentions": _TWO,
    "fast": {**_NARROW, **_FAST},
    "fast_unshared": {**_NARROW, **_FAST, **_UNSHARED},
    "unshared_fast_discriminator": {**_UNSHARED, **_rates(1e-3, 4e-3)},
    "unshared_slow_generator": {**_UNSHARED, **_rates(5e-4, 2e-3)},
    "balanced": _BALANCED,
}
_HIGH_END = {"generator_optimizer.final_learning_rate": 4e-4, "discriminator_optimizer.final_learning_rate": 8e-4}
_LAST_CANDIDATES = {
    "r1_0.5": {**_TWO, **_UNSHARED},
    "r1_1": {**_TWO, **_UNSHARED, "training.r1_weight": 1.0},
    "r1_1_high_end": {**_TWO, **_UNSHARED, "training.r1_weight": 1.0, **_HIGH_END, "training.ema_decay": 0.998},
    "r1_2": {**_TWO, **_UNSHARED, "training.r1_weight": 2.0},
    "balanced": _BALANCED,
    "r1_1_constant_discriminator": {
        **_TWO,
        **_UNSHARED,
        "training.r1_weight": 1.0,
        "discriminator_optimizer.schedule": "constant",
    },
    "r1_1_shared": {**_TWO, "training.r1_weight": 1.0, **_schedule(4500, 0.996)},
    "balanced_batch_16": {**_BALANCED, "training.batch_size": 16, **_schedule(7200, 0.997)},
}

_DIFFAUGMENT = {"training.augmentation": ["color", "translation", "cutout"]}

# Distances of features of benchmarks/cifar10_features.py, in the folder where the studies run.
_OWN_FEATURES = {"evaluation.features": "cifar10_features.keras:features", "evaluation.num_samples": 5000}
_CIFAR10 = {
    "config": "cifar10_small",
    "hardware.native_operations": True,
    **_OWN_FEATURES,
    "evaluation.interval": 500,
    "output.checkpoint_interval": 500,
    "output.checkpoints_to_keep": 1,
    "output.tensorboard": "none",
}
_SMALL_DATA = {
    **_CIFAR10,
    **_widths(16, 32),
    "evaluation.split": "train",
    "training.steps": 6000,
}
_REMEDIES = {
    "none": {},
    "diffaugment": _DIFFAUGMENT,
    "ada": {"training.ada_target": 0.6, "training.ada_images": 20_000},
    "lecam_diffaugment": {**_DIFFAUGMENT, "training.lecam_weight": 0.3},
}

STUDIES = [
    Study(
        "quick_start_recipe", "Which settings make the best quick start?",
        {**RECIPE, "data.name": "twins", **_schedule(2400, 0.995), "training.share_fake_batch": True},
        _CANDIDATES,
        tuple(range(100, 105)), 300,
    ),
    Study(
        "quick_start_recipe_2", "Which changes to the best of them, in half of the time?",
        {**_SECOND, **_schedule(2000, 0.996)}, _SECOND_CANDIDATES, (100,), 400,
    ),
    Study(
        "quick_start_recipe_3", "The same with all of the time",
        {**_SECOND, **_schedule(4000, 0.996)}, _LAST_CANDIDATES, tuple(range(100, 105)), 400,
    ),
    Study(
        "quick_start_recipe_4", "Which changes to `quick_start_hinge` make more of the colors?",
        {**_HINGE_QUICK_START, **_schedule(5400, 0.998)},
        {
            "r1_2": {"training.r1_weight": 2.0},
            "relativistic": {"training.loss": "relativistic", "training.r2_weight": 1.0},
            "relativistic_slow_end": {
                "training.loss": "relativistic", "training.r2_weight": 1.0, **_schedule(5600, 0.998),
                "generator_optimizer.final_learning_rate": 2e-4, "discriminator_optimizer.final_learning_rate": 4e-4,
            },
            "relativistic_half": {**_RELATIVISTIC_HALF, **_schedule(5600, 0.998)},
            "relativistic_half_5000": {**_RELATIVISTIC_HALF, **_schedule(5000, 0.998)},
        },
        tuple(range(100, 103)), 200,
    ),
    Study(
        "quick_start", "What does `python -m sagan_tf.train` give?", {"hardware.native_operations": True},
        {"quick_start": {}}, tuple(range(10)), 500,
    ),
    Study(
        "quick_start_hinge", "What did it give before, with the hinge loss?", _HINGE_QUICK_START,
        {"quick_start": {}}, tuple(range(10)), 400,
    ),
    Study(
        "cifar10_recipe", "Which settings for CIFAR-10 on CPUs, in about equal times?",
        {
            **_CIFAR10, **_rates(1e-3, 2e-3), "training.ema_start_step": 0,
            **{f"{network}_optimizer.schedule": "linear" for network in ("generator", "discriminator")},
        },
        {
            "medium": {**_widths(24, 32), **_SHARED, **_schedule(1600, 0.995)},
            "small": {**_widths(16, 32), **_SHARED, **_schedule(2400, 0.995)},
            "small_slow": {**_widths(16, 32), **_SHARED, **_schedule(2400, 0.995), **_rates(4e-4, 8e-4)},
            "small_slow_generator": {**_widths(16, 32), **_SHARED, **_schedule(2400, 0.995), **_rates(2e-4, 8e-4)},
            "small_two_updates": {
                **_widths(16, 32), **_UNSHARED, **_schedule(1500, 0.995), **_rates(4e-4, 8e-4), "training.d_steps": 2,
            },
            "small_wide_discriminator": {**_widths(16, 48), **_SHARED, **_schedule(1500, 0.995)},
            "small_wide_discriminator_slow": {
                **_widths(16, 48), **_SHARED, **_schedule(1500, 0.995), **_rates(4e-4, 8e-4),
            },
            "medium_wide_discriminator_slow": {
                **_widths(24, 48), **_SHARED, **_schedule(1200, 0.995), **_rates(4e-4, 8e-4),
            },
        },
        (100,),
    ),
    Study(
        "attention_twins_32", "Does attention make far parts agree, and where? (Table 1 of the paper)",
        {**RECIPE, "data.name": "twins"}, attention_arms([16, 8]), tuple(range(5)),
    ),
    Study(
        "attention_mirror_32", "The same where far parts agree in place",
        {**RECIPE, "data.name": "mirror"}, attention_arms([16, 8]), tuple(range(5)),
    ),
    Study(
        "attention_mirror_quick_start", "The same with the settings of `quick_start_hinge`",
        {**_HINGE_QUICK_START, "data.name": "mirror"},
        attention_arms([16, 8]), tuple(range(5)), 400,
    ),
    Study(
        "mirror_recipe", "Which changes to them train on mirror in most runs?",
        {**_HINGE_QUICK_START, "data.name": "mirror"},
        {
            "base": {},
            "relativistic": {"training.loss": "relativistic", "training.r2_weight": 1.0},
            "half_rates": {
                **_rates(5e-4, 1e-3),
                "generator_optimizer.final_learning_rate": 2e-4, "discriminator_optimizer.final_learning_rate": 4e-4,
            },
            "r1_4": {"training.r1_weight": 4.0},
        },
        tuple(range(100, 105)), 400,
    ),
    Study(
        "attention_mirror_relativistic", "Does attention make far parts agree, in place too?",
        {
            **_HINGE_QUICK_START, "data.name": "mirror",
            "training.loss": "relativistic", "training.r2_weight": 1.0,
        },
        attention_arms([16, 8]), tuple(range(5)), 400,
    ),
    Study(
        "stability_twins_32", "Do spectral normalization in both networks and two rates keep training stable?",
        {**RECIPE, **_NO_ATTENTION, "data.name": "twins"},
        _STABILITY, tuple(range(5)), 200,
    ),
    Study(
        "stability_rates_twins_32", "From which rates on do they? (the same at 2 and 4 times the rates)",
        {**RECIPE, **_NO_ATTENTION, "data.name": "twins"}, _faster(_STABILITY, (2, 4)), (0, 1), 200,
    ),
    Study(
        "stability_long_twins_32", "Does a longer run at constant rates show it?",
        {
            **RECIPE, **_NO_ATTENTION, "data.name": "twins", "training.steps": 8000,
            **{f"{network}_optimizer.schedule": "constant" for network in ("generator", "discriminator")},
        },
        _STABILITY, (0,), 400,
    ),
    Study(
        "attention_twins_64", "The same at 64 px, where there are more places to choose from",
        {**RECIPE, "data.name": "twins", "data.image_size": 64}, attention_arms([16, 8, 32]), tuple(range(3)),
    ),
    Study(
        "small_data_cifar10", "What helps with a tenth of CIFAR-10?",
        {**_SMALL_DATA, "data.split": "train[:5000]"}, _REMEDIES, (0, 1),
    ),
    Study(
        "small_data_cifar10_500", "And with a hundredth?",
        {**_SMALL_DATA, "data.split": "train[:500]", "training.steps": 10_000}, _REMEDIES, (0, 1),
    ),
]  # fmt: skip
