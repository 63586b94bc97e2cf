"""The tests by Triton's interpreter once more, on compiled kernels that the PTX machine runs.

Every operation and every reduction of the tables, contracted formulas, block-sparse ranges, streamed data, and the
front end; tiles are as small as there, for a GPU of capability 8.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import test_triton_dots as dots
import test_triton_front as front
import test_triton_interpreter as interpreter
import test_triton_ranges as ranges
import test_triton_stream as stream
import test_triton_stream_ranges as stream_ranges
from interpreted import use_tile
from ptx.use import as_device, compiled_in, needs_compiler

pytestmark = [pytest.mark.slow, needs_compiler]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("triton")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, compiled: Path) -> Iterator[None]:
    compiled_in(str(compiled), monkeypatch)
    interpreter.use_tile(monkeypatch, 16, 16)
    with as_device(monkeypatch, 80):
        yield


@pytest.fixture
def _interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests of the front end and of streams ask for."""
    use_tile(monkeypatch, 16, 16)


seen = dots.seen  # the tiles that are used
points = front.points

test_operation = interpreter.test_operation
test_special_values = interpreter.test_special_values
test_operation_on_indices = interpreter.test_operation_on_indices
test_index_arithmetic_is_exact_beyond_32_bits = interpreter.test_index_arithmetic_is_exact_beyond_32_bits
test_reduction = interpreter.test_reduction
test_every_layout = interpreter.test_every_layout
test_parts_of_the_columns_are_merged = interpreter.test_parts_of_the_columns_are_merged
test_ties_nan_and_infinities = interpreter.test_ties_nan_and_infinities
test_terms_that_are_all_the_same = interpreter.test_terms_that_are_all_the_same
test_exponents_that_grow = interpreter.test_exponents_that_grow
test_lists_of_all_lengths = interpreter.test_lists_of_all_lengths
test_long_vectors = interpreter.test_long_vectors
test_folds_inside_of_long_vectors = interpreter.test_folds_inside_of_long_vectors

test_reductions_of_contracted_terms = dots.test_reductions_of_contracted_terms
test_wide_sums = dots.test_wide_sums

test_every_reduction_of_ranges = ranges.test_every_reduction
test_reduction_in_tiles = stream.test_reduction_in_tiles
test_few_rows_in_tiles = stream.test_few_rows_in_tiles
test_ties_nan_and_infinities_in_tiles = stream.test_ties_nan_and_infinities_in_tiles
test_row_and_column_numbers_are_those_of_the_whole = stream.test_row_and_column_numbers_are_those_of_the_whole
test_long_vectors_in_tiles = stream.test_long_vectors_in_tiles
test_matrix_units_in_tiles = stream.test_matrix_units_in_tiles
test_derivatives_of_first_and_second_order = front.test_derivatives_of_first_and_second_order


@pytest.mark.parametrize("name", stream_ranges.NAMES)
def test_every_reduction_of_ranges_in_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges.small_tiles(monkeypatch, 4, 16)
    stream_ranges.test_every_reduction(name)
