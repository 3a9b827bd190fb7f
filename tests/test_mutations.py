"""The faults of `tests/stress/mutations.py` can still be made."""

import ast
import shutil

import pytest
from stress.mutations import MUTATIONS, ROOT, mutate


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_changes_code_of_this_tree_into_other_code(name, tmp_path):
    paths = {path for path, *_ in MUTATIONS[name]}
    for path in paths:
        (tmp_path / "sagan_tf" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "sagan_tf" / path, tmp_path / "sagan_tf" / path)
    mutate(tmp_path, MUTATIONS[name])
    for path in paths:
        before, after = ((root / "sagan_tf" / path).read_text() for root in (ROOT, tmp_path))
        assert ast.dump(ast.parse(before)) != ast.dump(ast.parse(after))
