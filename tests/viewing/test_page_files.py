"""Pages are self-contained and keep their data."""

import json
import re

import pytest

from sagan_tf.viewing.page_files import fill_page


@pytest.mark.parametrize("name", ["report.html", "explorer.html"])
def test_html_page_is_self_contained_and_keeps_its_data(name):
    data = {"text": "</script> __DATA__ /*FILE report.js*/ <!--", "number": 0.1}
    page = fill_page(name, data)
    island = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(island) == data
    assert not re.search(r"/\*FILE", page.replace(island, "")) and "<style></style>" not in page
    assert not re.search(r"""(?:src|href)=["'](?:https?:|//)|@import|url\(""", page)


def test_html_page_rejects_data_that_is_not_json():
    with pytest.raises(ValueError):
        fill_page("report.html", {"loss": float("nan")})
