"""The two optimizers of a SAGAN as Keras' callbacks of learning rates know several: a list `optimizers`."""


class TwoOptimizers:
    """What `keras.callbacks.LearningRateScheduler`, `ReduceLROnPlateau` and `TensorBoard` read of `model.optimizer`.

    Args:
        generator, discriminator: keras.optimizers.Optimizer each, built.
    """

    built = True

    def __init__(self, generator, discriminator):
        self.optimizers = [generator, discriminator]

    @property
    def iterations(self):
        """Updates of the generator so far, a variable."""
        return self.optimizers[0].iterations

    @property
    def variables(self):
        """Variables of both."""
        return [variable for optimizer in self.optimizers for variable in optimizer.variables]

    def finalize(self, *networks):
        """Puts the averages of optimizers with `use_ema` in place of the weights, as Keras does at the end of `fit`."""
        for optimizer, network in zip(self.optimizers, networks):
            optimizer.finalize_variable_values(network.trainable_variables)
