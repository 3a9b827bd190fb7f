"""Figures of the averaged generator as training goes on, and the best generator so far."""

from sagan_tf.training.callbacks import StepCallback


class EvaluationInterrupted(Exception):
    """The run stops before its first step, in a measurement that an earlier process had left to it."""


class Evaluations(StepCallback):
    """Measures every `interval` steps and at the end.

    Args:
        measure: Function of a step that gives a dict of figures by name; None: it was broken off, for the run stops.
        record: Function of a dict with `step` and the figures.
        keep: Function of (SAGAN, step, figures) that keeps the generator if it is the best so far.
        interval: Steps from one measurement to the next.
        is_missing: Function of the step that training starts from, whether its measurement was broken off.

    Raises:
        EvaluationInterrupted: Such a measurement was interrupted again; Keras would make a step first.
    """

    def __init__(self, measure, record, keep, interval, is_missing=lambda step: False):
        super().__init__(interval)
        self.measure, self.record, self.keep = measure, record, keep
        self.is_missing = is_missing

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.measured_step = self.first_step
        if self.is_missing(self.first_step) and not self._evaluate():
            raise EvaluationInterrupted

    def at_interval(self, step):
        self._evaluate()

    def on_train_end(self, logs=None):
        # A run that is interrupted is measured where one that is not would be.
        stopped = getattr(self.model, "stop_training", False)
        if self.measured_step != self.last_step and not stopped:
            self._evaluate()

    def _evaluate(self):
        """Whether it was measured."""
        figures = self.measure(self.last_step)
        if figures is None:
            return False
        self.record({"step": self.last_step, **figures})
        self.keep(self.model, self.last_step, figures)
        self.measured_step = self.last_step
        return True
