"""The guard of a resumed run continues from the metrics lines of earlier processes."""

import json

import pytest

from sagan_tf.errors import UserError
from sagan_tf.experiment.callbacks import failure_signs
from sagan_tf.runs.folder import Run
from sagan_tf.training.guard import GUESSING_LINES

GUESSING = {"d_accuracy": 0.5, "d_loss": 2.0, "sample_diversity": 0.5}
EVALUATION = {"fid": 20.0, "evaluation_samples": 100}


@pytest.mark.parametrize(("recovered", "is_guessing"), [(None, True), (100, True), (200, False)])
def test_guessing_is_counted_over_processes_and_anew_after_a_recovery(tmp_path, recovered, is_guessing):
    run = Run(tmp_path)
    steps = range(200, 200 * GUESSING_LINES, 200)
    for step in steps:
        run.metrics_log.append({"step": step, **GUESSING})
        run.metrics_log.append({"step": step, **EVALUATION})
    if recovered is not None:
        run.add_recovery("collapse", recovered, 0.5)
    assert ("guessing" in failure_signs(run).of(GUESSING)) == is_guessing


@pytest.mark.parametrize("recovered", [0, 150, 1000])
def test_largest_diversity_is_that_of_all_lines(tmp_path, recovered):
    run = Run(tmp_path)
    for step, diversity in ((100, 0.9), (200, 0.3)):
        run.metrics_log.append({"step": step, **GUESSING, "sample_diversity": diversity})
    if recovered:
        run.add_recovery("collapse", recovered, 0.5)
    signs = failure_signs(run)
    assert signs.largest_diversity == 0.9
    assert "collapsed" in signs.of({**GUESSING, "sample_diversity": 0.1})


@pytest.mark.parametrize("line", [{}, {"d_accuracy": None, "d_loss": None}, {"d_accuracy": 1.0}])
def test_lines_without_what_the_guard_judges_are_left_out(tmp_path, line):
    """Such as of a file that was edited."""
    run = Run(tmp_path)
    run.metrics_log.append({"step": 1, "sample_diversity": 0.9, **line})
    assert failure_signs(run).largest_diversity == 0.0


@pytest.mark.parametrize("recovery", [{"rate_factor": 0.5}, {"rate_factor": 0.5, "kind": "x", "step": "a"}])
def test_recoveries_without_kind_or_step_are_refused(tmp_path, recovery):
    run = Run(tmp_path)
    run.recoveries_path.write_text(json.dumps([recovery]))
    with pytest.raises(UserError, match="recoveries.json: does not hold a list of recoveries"):
        failure_signs(run)
