"""Adversarial losses of logits; each is a pair, for the discriminator and for the generator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="sagan_tf")
@dataclass(frozen=True)
class AdversarialLoss:
    """A pair of losses. To save a model with a pair of your own, register its functions with Keras.

    Args:
        name: As in a config.
        discriminator: Function of (real_logit, fake_logit), each (B, 1), that returns a scalar.
        generator: Function of fake_logit, (B, 1), that returns a scalar; of (real_logit, fake_logit) if `relativistic`.
        relativistic: bool. Whether the loss compares each real image with a generated one, which then has its label.
    """

    name: str
    discriminator: Callable[[Any, Any], Any]
    generator: Callable[..., Any]
    relativistic: bool = False

    def generator_loss(self, real_logit: Any, fake_logit: Any) -> Any:
        """Calls `generator` with the logits that it takes.

        Args:
            real_logit: (B, 1), logits of real images; None if not `relativistic`.
            fake_logit: (B, 1), logits of generated images.

        Returns:
            Scalar.
        """
        return self.generator(real_logit, fake_logit) if self.relativistic else self.generator(fake_logit)

    def get_config(self):
        return {key: keras.saving.serialize_keras_object(value) for key, value in vars(self).items()}

    @classmethod
    def from_config(cls, config):
        return cls(**{key: keras.saving.deserialize_keras_object(value) for key, value in config.items()})


def hinge_discriminator_loss(real_logit: Any, fake_logit: Any) -> Any:
    """mean(max(0, 1 - D(x))) + mean(max(0, 1 + D(G(z)))): Zhang et al. 2019, equation 4; Lim and Ye 2017.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar, 0 or more.
    """
    return ops.mean(ops.relu(1.0 - real_logit)) + ops.mean(ops.relu(1.0 + fake_logit))


def hinge_generator_loss(fake_logit: Any) -> Any:
    """-mean(D(G(z))): Zhang et al. 2019, equation 4.

    Args:
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar.
    """
    return -ops.mean(fake_logit)


def non_saturating_discriminator_loss(real_logit: Any, fake_logit: Any) -> Any:
    """-mean(log s(D(x))) - mean(log(1 - s(D(G(z))))), s the sigmoid: Goodfellow et al. 2014, equation 1.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar, 0 or more.
    """
    return ops.mean(ops.softplus(-real_logit)) + ops.mean(ops.softplus(fake_logit))


def non_saturating_generator_loss(fake_logit: Any) -> Any:
    """-mean(log s(D(G(z)))), s the sigmoid: Goodfellow et al. 2014, section 3.

    Args:
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar, 0 or more.
    """
    return ops.mean(ops.softplus(-fake_logit))


def wasserstein_discriminator_loss(real_logit: Any, fake_logit: Any) -> Any:
    """mean(D(G(z))) - mean(D(x)): Arjovsky et al. 2017, equation 3; spectral normalization bounds D's slope.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar.
    """
    return ops.mean(fake_logit) - ops.mean(real_logit)


def least_squares_discriminator_loss(real_logit: Any, fake_logit: Any) -> Any:
    """(mean((D(x) - 1)^2) + mean(D(G(z))^2)) / 2: Mao et al. 2017, equation 9.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar, 0 or more.
    """
    return (ops.mean(ops.square(real_logit - 1.0)) + ops.mean(ops.square(fake_logit))) / 2.0


def least_squares_generator_loss(fake_logit: Any) -> Any:
    """mean((D(G(z)) - 1)^2) / 2: Mao et al. 2017, equation 9.

    Args:
        fake_logit: (B, 1), logits of generated images.

    Returns:
        Scalar, 0 or more.
    """
    return ops.mean(ops.square(fake_logit - 1.0)) / 2.0


def relativistic_discriminator_loss(real_logit: Any, fake_logit: Any) -> Any:
    """-mean(log s(D(x) - D(G(z)))) over pairs, s the sigmoid: Huang et al. 2024 (R3GAN), equation 2.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images, one for each real image.

    Returns:
        Scalar, 0 or more.
    """
    return ops.mean(ops.softplus(fake_logit - real_logit))


def relativistic_generator_loss(real_logit: Any, fake_logit: Any) -> Any:
    """-mean(log s(D(G(z)) - D(x))) over pairs, s the sigmoid: Huang et al. 2024 (R3GAN), section 2.

    Args:
        real_logit: (B, 1), logits of real images.
        fake_logit: (B, 1), logits of generated images, one for each real image.

    Returns:
        Scalar, 0 or more.
    """
    return ops.mean(ops.softplus(real_logit - fake_logit))


LOSSES = {
    loss.name: loss
    for loss in (
        AdversarialLoss("hinge", hinge_discriminator_loss, hinge_generator_loss),
        AdversarialLoss("non_saturating", non_saturating_discriminator_loss, non_saturating_generator_loss),
        # The generator has the same loss as with hinge.
        AdversarialLoss("wasserstein", wasserstein_discriminator_loss, hinge_generator_loss),
        AdversarialLoss("least_squares", least_squares_discriminator_loss, least_squares_generator_loss),
        AdversarialLoss("relativistic", relativistic_discriminator_loss, relativistic_generator_loss, True),
    )
}


def get(loss: str | AdversarialLoss) -> AdversarialLoss:
    """Finds an adversarial loss.

    Args:
        loss: Name, a key of `LOSSES`, or an `AdversarialLoss`, which is returned as it is.

    Returns:
        AdversarialLoss.

    Raises:
        ValueError: There is none of that name.
    """
    if isinstance(loss, AdversarialLoss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {sorted(LOSSES)} or an AdversarialLoss. Received: {loss=}.")
    return LOSSES[loss]
