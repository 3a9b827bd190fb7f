"""Line charts."""

import numpy as np
import pytest

from sagan_tf.viewing.line_charts import _LINE, LineChart, draw_charts


def rows_of_points(chart):
    """Per point, the middle row of its dot in px, None if it is not drawn."""
    pixels = np.asarray(draw_charts([chart], "title"))
    is_dot = (pixels == _LINE).all(-1)
    columns = np.linspace(88, 632, len(chart.labels)).astype(int)  # margins of 40 and 48 px, and 640 px of width
    rows = [np.flatnonzero(is_dot[:, column]) for column in columns]
    return [row.mean() if row.size else None for row in rows]


def test_line_chart_draws_values_in_proportion():
    rows = np.array(rows_of_points(LineChart("FID", ("0.5", "1", "none"), (20.0, 5.0, 10.0))))
    np.testing.assert_allclose((rows[1] - rows) / (rows[1] - rows[0]), [1, 0, 1 / 3], atol=0.02)
    assert rows_of_points(LineChart("FID", ("1", "2"), (float("nan"), 4.0)))[0] is None
    same = rows_of_points(LineChart("FID", ("1", "2"), (4.0, 4.0)))
    assert same[0] == same[1]
    # The scale contains the error bars: of the same values with large errors, the dots are nearly level.
    level = np.array(rows_of_points(LineChart("IS", ("1", "2"), (4.0, 4.1), (1.0, 1.0))))
    np.testing.assert_allclose(level[0] - level[1], 0.1 / 2.1 * (320 - 2 * 48), atol=1)
    with pytest.raises(ValueError, match="Received"):
        LineChart("IS", ("1", "2"), (1.0, 2.0), (0.1,))
    with pytest.raises(ValueError, match="Received"):
        LineChart("FID", ("1",), (1.0, 2.0))
