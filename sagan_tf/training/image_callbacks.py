"""Callbacks that save images of samples and of attention during training."""

from sagan_tf.generation.sampler import Sampler
from sagan_tf.training.callbacks import StepCallback
from sagan_tf.viewing.attention import AttentionProbe
from sagan_tf.viewing.attention_images import make_row, save_rows
from sagan_tf.viewing.image_grids import save_grid


class ImageCallback(StepCallback):
    """Calls `at_interval` before the first step and at the end too."""

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.first_step == 0:
            self.at_interval(0)

    def on_train_end(self, logs=None):
        if self.last_step % self.interval:
            self.at_interval(self.last_step)


class Samples(ImageCallback):
    """Saves a grid of the averaged generator's images of fixed seeds.

    Args:
        path_of: Function of a step that gives the image's path.
        interval: int, steps from one image to the next.
        seeds: (N,) ints.
        labels: (N,) ints, or None.
        columns: int, of the image.
        row_titles: One str per row, or empty.
    """

    def __init__(self, path_of, interval, seeds, labels, columns, row_titles=()):
        super().__init__(interval)
        self.path_of, self.columns, self.row_titles = path_of, columns, row_titles
        self.seeds, self.labels = seeds, labels

    def on_train_begin(self, logs=None):
        self.sampler = Sampler(self.model.ema_generator, show_progress=False)
        super().on_train_begin(logs)

    def at_interval(self, step):
        images = self.sampler.sample(self.seeds, self.labels)
        save_grid(images, self.path_of(step), self.columns, self.row_titles)


class AttentionImages(ImageCallback):
    """Saves the attention maps of five query points for fixed seeds; nothing for a generator without attention.

    Args:
        path_of: Function of a step that gives the image's path.
        interval: int, steps from one image to the next.
        seeds: (N,) ints.
        labels: (N,) ints, or None.
        titles: N or more str, one per image, or empty.
    """

    def __init__(self, path_of, interval, seeds, labels, titles=()):
        super().__init__(interval)
        self.path_of, self.titles = path_of, titles
        self.seeds, self.labels = seeds, labels

    def on_train_begin(self, logs=None):
        self.probe = AttentionProbe(self.model.ema_generator)
        self.inputs = Sampler(self.model.ema_generator).inputs(self.seeds, self.labels)
        super().on_train_begin(logs)

    def at_interval(self, step):
        if not self.probe.layers:
            return
        images, maps_of = self.probe.attention_maps(self.inputs)
        rows = [
            make_row(maps, i, image, title=", ".join([*self.titles[i : i + 1], f"{name}, gamma {maps.gamma:.3f}"]))
            for name, maps in maps_of.items()
            for i, image in enumerate(images)
        ]
        save_rows(rows, self.path_of(step), f"Attention of the averaged generator, step {step}")
