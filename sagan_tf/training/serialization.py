"""What Keras saves of a SAGAN besides its variables: its arguments and those of `compile`."""

import keras

from sagan_tf.training import losses
from sagan_tf.training.distribution import DistributedModel
from sagan_tf.training.step_options import STEP_OPTIONS

_SAVED_OPTIONS = (*STEP_OPTIONS, "native_operations", "steps_per_execution", "run_eagerly")


class SerializableModel(DistributedModel):
    """The part of `SAGAN` that Keras' `save`, `load_model` and `clone_model` use."""

    def get_config(self):
        return {
            **super().get_config(),
            "generator": keras.saving.serialize_keras_object(self.generator),
            "discriminator": keras.saving.serialize_keras_object(self.discriminator),
            "ema_decay": None if self._average is None else self._average.decay,
            "ema_start_step": 0 if self._average is None else self._average.start_step,
            "label_distribution": self.label_distribution,
            "augmentation": list(self.augmentation),
            "seed": self.seed,
            "frozen_generator_blocks": self.frozen_generator_blocks,
            "frozen_discriminator_blocks": self.frozen_discriminator_blocks,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        names = ("generator", "discriminator")
        networks = {name: keras.saving.deserialize_keras_object(config[name], custom_objects) for name in names}
        return cls(**{**config, **networks})

    def get_compile_config(self):
        """Serializes the arguments of `compile`; Keras saves them with the model."""
        if not self.compiled:
            return {}
        loss = self.adversarial_loss
        return keras.saving.serialize_keras_object(
            {
                "generator_optimizer": self.generator_optimizer,
                "discriminator_optimizer": self.discriminator_optimizer,
                "loss": loss.name if losses.LOSSES.get(loss.name) is loss else loss,
                "jit_compile": self.jit_compile_choice,
                **{name: getattr(self, name) for name in _SAVED_OPTIONS},
            }
        )

    def compile_from_config(self, config):
        """Compiles the model by what `get_compile_config` returned; Keras then loads the optimizers' slots."""
        self.compile(**keras.saving.deserialize_keras_object(config))
