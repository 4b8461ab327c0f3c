"""Tables of metrics on a terminal: what fits into how many columns, one draw and values that do not exist, n of each row."""

import io
import math

import pytest
from rich.console import Console

from wgan_jax.evaluation.evaluator import QUANTILE_SAMPLES, Sizes, count, summarise
from wgan_jax.evaluation.tables import Cell, cells, print_metrics
from wgan_jax.report.tables import print_table

NAMES = ("real", "training images, copied", "k-means, 30 centroids", "k-means, 200 centroids", "class Gaussians", "untrained")
METRICS = ("wasserstein_empirical", "wasserstein_floor", "kernel_distance_spread", "precision", "classes_covered")


def shown(columns, width=80, encoding="utf-8", draws=1):
    """The lines that a console of a width and an encoding shows."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # an error where a sign is not of the encoding
    print_metrics(Console(file=file, width=width), "a title", columns, draws)
    file.seek(0)
    return file.read().splitlines()


def row(lines, name):
    return next(line for line in lines if name in line).split()


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_table_of_many_generators_is_no_wider_than_the_console_and_loses_nothing(width, encoding):
    numbers = {name: 100.25 + index for index, name in enumerate(NAMES)}
    columns = {name: {metric: Cell(numbers[name], 0.5, 500) for metric in METRICS} for name in NAMES}
    lines = shown(columns, width, encoding)
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    for number in numbers.values():
        assert text.count(f"{number:.3f} {'+-' if encoding == 'ascii' else '±'} 0.500") == len(METRICS)
    assert "…" not in text
    assert "..." not in text


def test_one_draw_has_no_deviation_and_what_does_not_exist_no_number():
    # by hand: mean of 1 and 3 is 2, their deviation with 2 - 1 below the root of 2; a single draw has none; NaN in a draw is
    # none of the mean
    two, one = (
        summarise([{"precision": 1.0, "recall": 0.5}, {"precision": 3.0, "recall": math.nan}]),
        summarise([{"recall": 0.5}]),
    )
    assert (two["precision"], two["precision_std"]) == (2, pytest.approx(2**0.5))
    assert math.isnan(two["recall"])
    assert (one["recall"], math.isnan(one["recall_std"])) == (0.5, True)
    sizes = Sizes(500, 300)
    lines = shown({"last": cells(two, sizes), "real data": cells(one, sizes)})
    assert row(lines, "precision") == ["↑", "precision", "2.000", "±", "1.414", "300"]  # nothing of real data
    assert row(lines, "recall") == ["↑", "recall", "-", "0.500", "300"]


def test_the_title_says_of_how_many_draws_in_letters_that_the_console_has():
    columns = {"last": {"precision": Cell(0.5, 0.1, 500)}}
    titles = [
        shown(columns, encoding=encoding, draws=draws)[0] for encoding, draws in (("utf-8", 1), ("utf-8", 5), ("ascii", 5))
    ]
    assert titles == ["a title, one draw", "a title, mean ± deviation of 5 draws", "a title, mean +- deviation of 5 draws"]


def test_a_name_has_three_lines_at_most():
    lines = shown({"last and best, step 20": {"precision": Cell(0.5, math.nan, 500)}}, width=60)
    head = lines[1 : next(index for index, line in enumerate(lines) if "─" in line)]
    assert [line.split() for line in head] == [["last", "and"], ["best,"], ["step", "20", "n"]]


def test_every_row_has_its_own_n():
    names = ("wasserstein_excess", "precision", "wasserstein_quantile", "estimate_heldout")
    assert [count(name, Sizes(500, 2000)) for name in names] == [500, 2000, QUANTILE_SAMPLES, 500]
    values = summarise([dict.fromkeys(names[:3], 1.0)] * 2)
    lines = shown({"last": cells(values, Sizes(500, 2000)), "real data": cells(values, Sizes(297, 2000))})
    assert row(lines, "excess")[-3:] == ["500", "/", "297"]
    assert row(lines, "precision")[-2:] == ["0.000", "2000"]
    assert row(lines, "quantile")[-1] == "100000"


def test_small_numbers_are_told():
    lines = shown({"last": {"kernel_distance": Cell(0.00012, 0.00003, 9), "wasserstein_excess": Cell(-0.0004, 0.02, 9)}})
    assert row(lines, "kernel")[3:6] == ["0.00012", "±", "3e-05"]
    assert row(lines, "excess")[3:6] == ["-0.000", "±", "0.020"]  # less than its own deviation


def test_the_better_direction_stands_beside_the_metric():
    cell = Cell(1, 0.5, 9)
    columns = {"last": {"wasserstein_excess": cell, "recall": cell, "copying_z": cell}}
    for encoding, signs in {"utf-8": "↓↑", "latin-1": "v^"}.items():
        lines = shown(columns, encoding=encoding)
        assert [row(lines, name)[0] for name in ("excess", "recall", "copying")] == [*signs, "copying"]
        assert lines[-1] == f"{signs[0]} lower, {signs[1]} higher is better; n examples on each side"


def test_a_heading_is_as_wide_as_it_likes_and_of_the_columns_those_that_fit():
    labels = ["a setting with a long name", "  last"]
    columns = {"updates": ["", "150"], "excess": ["", "0.1 ± 0.2\n[0, 1]"], "recall": ["", "0.5"]}

    def lines(width, at_least=None):
        file = io.StringIO()
        print_table(Console(file=file, width=width), "", labels, columns, at_least=at_least)
        return file.getvalue().splitlines()

    assert lines(34, 1) == [
        "        updates     excess  recall",
        "─" * 34,
        "a setting with a long name",
        "  last      150  0.1 ± 0.2     0.5",
        "                    [0, 1]",
        "",
    ]
    assert lines(33, 1)[0].split() == ["updates", "excess"]
    assert lines(10, 2)[0].split() == ["updates", "excess"]
    assert [line.split() for line in lines(33) if "rec" in line or "upd" in line] == [["updates", "excess"], ["recall"]]
