"""What a summary says of small sweeps whose answers are known."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from wgan_jax.errors import UserError
from wgan_jax.report import figures as sweep_figures
from wgan_jax.report.names import labels_of, number
from wgan_jax.report.settings import settings_of
from wgan_jax.report.statistics import parse_conditions
from wgan_jax.report.summary import write_summary

RESULTS_FIGURE = sweep_figures.results_figure


@pytest.fixture
def undrawn(monkeypatch):
    """Tables alone: pictures take seconds."""
    for name in ("results_figure", "sweep_curves_figure", "budget_figure", "thresholds_figure"):
        monkeypatch.setattr(sweep_figures, name, lambda *_: Figure(figsize=(0.1, 0.1)))


def point(name, values, scores, *, test=None, best=None, n_critic=5, rate=0.01, dies=False, done=True, **metrics):
    """The rows of a point with validation scores 100 generator updates apart; on test the last and the least of them."""
    base = {"point": name, "seed": 0, "stage": 0, "method": "wgan_gp", **values}
    rows = []
    for step, score in enumerate(scores, 1):
        spent = {"step": 100 * step, "critic_step": 100 * step * n_critic, "seconds": 100 * step * rate}
        rows.append({**base, **spent, "status": "ok", "split": "validation", "state": "last", "wasserstein_excess": score})
    if dies:
        del rows[-1]["wasserstein_excess"]
        rows[-1]["status"] = "non-finite"
    elif done:
        last = scores[-1] if test is None else test
        rows += [
            {**rows[-1], "split": "test", "state": state, **metrics, "wasserstein_excess": score}
            for state, score in (("last", last), ("best", min(scores) if best is None else best))
        ]
    return rows


def tables(text):
    """{heading: [{column: cell}]} of the tables of a summary."""
    found = {}
    for section in text.split("\n## ")[1:]:
        heading, *lines = section.splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        found[heading] = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return found


def grid():
    """Two settings of six runs; of the second one becomes non-finite and another misses modes."""
    rows = []
    for i in range(6):
        rows += point(
            f"a{i}",
            {"penalty.weight": 1.0},
            [0.5, 0.2 + i / 100],
            test=round(0.1 + i / 100, 2),
            best=0.05,
            modes=8,
            recall=None,
        )
        values, modes = {"penalty.weight": 10.0}, 7 if i == 1 else 8
        rows += point(
            f"b{i}",
            values,
            [0.6, 0.3 + i / 100],
            test=round(0.12 + i / 100, 2),
            best=0.06,
            modes=modes,
            recall=None,
            dies=i == 0,
        )
    return rows


def test_the_table_of_settings(tmp_path, undrawn):
    text = write_summary(tmp_path, grid(), ["penalty.weight"], "modes<8,recall<0.1", "Sweep")
    assert (tmp_path / "summary.md").read_text(encoding="utf-8") == text
    assert text.startswith("# Sweep\n")
    assert "Done are 12 runs of 2 settings;" in text
    assert "becomes non-finite, or on test, in its last state, has `modes<8`." in text
    assert "No test row has `recall`" in text
    one, ten = tables(text)["Settings"]
    assert one == {
        "setting": "weight 1",
        "n": "6",
        "failed": "0 of 6, 0% [0%, 39%]",
        "`wasserstein_excess`": "0.125 [0.1, 0.15]",
        "`modes`": "8 [8, 8]",
        "`wasserstein_excess`, best state": "0.05 [0.05, 0.05]",
        "seconds of a device, a run": "2",
    }
    assert ten["failed"] == "2 of 6, 33% [10%, 70%]"
    assert ten["`wasserstein_excess`"] == "0.155 [0.13, ∞]"
    assert ten["`modes`"] == "8 [0, 8]"
    assert ten["`wasserstein_excess`, best state"] == "0.06 [0.06, ∞]"


def without(rows, metric):
    """The same rows, as of data where the metric has no value."""
    return [{**row, metric: None} for row in rows]


def test_a_finite_run_without_a_score_is_not_told_as_infinite_and_ranks_last(tmp_path, undrawn):
    rows = [row for seed in range(2) for row in without(point(f"a{seed}", {"clip": 0.1}, [0.5], modes=8), "wasserstein_excess")]
    rows += [row for seed in range(2) for row in point(f"b{seed}", {"clip": 0.2}, [0.5], modes=8)]
    rows += point("c0", {"clip": 0.3}, [0.7], modes=8) + without(point("c1", {"clip": 0.3}, [0.7], modes=7), "modes")
    rows += without(point("c2", {"clip": 0.3}, [0.7], modes=7), "wasserstein_excess")
    found = tables(write_summary(tmp_path, rows, ["clip"], "", "Sweep"))
    cells = [
        (row["`wasserstein_excess`"], row["`modes`"], row["`wasserstein_excess`, best state"]) for row in found["Settings"]
    ]
    assert cells == [
        ("-", "8", "-"),
        ("0.5", "8", "0.5"),
        ("0.7", "7", "0.7"),  # of modes 8, 7 and no value 7 is in the middle
    ]
    assert [row["A"] for row in found["P(A beats B)"]] == ["1. clip 0.2", "2. clip 0.3", "3. clip 0.1"]
    assert [row["B = 3"] for row in found["P(A beats B)"]] == ["1.00", "0.83", "0.50"]  # two of three beat, the third ties
    assert [row["100 generator updates"] for row in found["At equal budgets"]] == ["-", "0.5", "0.7"]


def test_a_run_without_a_score_is_drawn_as_no_infinite_one():
    column = sweep_figures.Column("clip 1", "", np.array([0.5, math.nan, 0.7]), np.full(3, False))
    figure = sweep_figures.results_figure([column], "score")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["median"]
    *_, middle = figure.axes[0].lines
    assert middle.get_xdata().tolist() == [0.7, 0.7]
    values = np.array([[0.5, math.nan, 0.7], [0.4, math.nan, math.nan]])
    figure = sweep_figures.sweep_curves_figure([sweep_figures.Curve("clip 1", {"updates": np.array([1, 2])}, values)], "score")
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [0.7, math.nan])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clip 1"]


def test_who_beats_whom(tmp_path, undrawn):
    one, ten = tables(write_summary(tmp_path, grid(), ["penalty.weight"], "", "Sweep"))["P(A beats B)"]
    # .10 .. .15 against .13 .. .17 and inf: of 36 pairs 3 tie, and 1 + 2 of .14 and .15 lose
    expected = (36 - 3 + 3 / 2 - 3) / 36
    assert (one["A"], ten["A"]) == ("1. weight 1", "2. weight 10")
    assert (one["B = 1"], one["B = 2"]) == ("0.50", f"{expected:.2f}")
    assert (ten["B = 1"], ten["B = 2"]) == (f"{1 - expected:.2f}", "0.50")


def test_many_settings_are_compared_with_the_best_and_the_best_are_shown(tmp_path, undrawn):
    rows = []
    for weight in range(25):
        for run in range(2):
            rows += point(
                f"{weight}-{run}", {"penalty.weight": float(weight)}, [weight, 1.0 + (weight - 12) ** 2 + weight / 50], test=9.0
            )
    found = tables(write_summary(tmp_path, rows, ["penalty.weight"], "", "Sweep"))
    assert [row["setting"] for row in found["Settings"]][:3] == ["weight 12", "weight 11", "weight 13"]
    assert len(found["Settings"]) == 20
    assert len(found["P(A beats B)"]) == 25
    assert list(found["P(A beats B)"][0]) == ["A", "B = 1"]
    fewer = [row for row in rows if row["penalty.weight"] < 20]
    found = tables(write_summary(tmp_path, fewer, ["penalty.weight"], "", "Sweep"))
    assert [len(row) for row in found["P(A beats B)"]] == [21] * 20  # all that are shown, each with each


def test_equal_budgets(tmp_path, undrawn):
    slow = point("slow", {"n_critic": 5}, [0.5, 0.4, 0.3], n_critic=5, rate=0.03)
    fast = point("fast", {"n_critic": 1}, [0.9, 0.8, 0.7, 0.6], n_critic=1, rate=0.01)
    dead = point("dead", {"n_critic": 1}, [0.9, 9.9], n_critic=1, rate=0.01, dies=True)
    five = point("five", {"n_critic": 1}, [0.9, 0.85, 0.75, 0.65], n_critic=1, rate=0.01)
    text = write_summary(tmp_path, slow + fast + dead + five, ["n_critic"], "", "Sweep")
    one, five = tables(text)["At equal budgets"]
    # 300 updates; 400 critic steps, before the slow one was evaluated; 4 seconds, in which it makes 133 updates
    assert one == {
        "setting": "n_critic 1",
        "300 generator updates": "0.75",
        "400 critic steps": "0.65",
        "4.0 seconds of a device": "0.65",
    }
    assert list(five.values()) == ["n_critic 5", "0.3", "not evaluated by then", "0.5"]


def test_a_method_without_a_critic_bounds_nobodys_critic_steps(tmp_path, undrawn):
    imle = point("imle", {"n_critic": 0}, [0.9, 0.8], n_critic=0)
    rows = imle + point("a", {"n_critic": 2}, [0.5, 0.4], n_critic=2) + point("b", {"n_critic": 1}, [0.6, 0.5], n_critic=1)
    none, one, two = tables(write_summary(tmp_path, rows, ["n_critic"], "", "Sweep"))["At equal budgets"]
    assert [row["200 critic steps"] for row in (none, one, two)] == ["no critic", "0.5", "0.5"]
    alone = tables(write_summary(tmp_path, imle, ["n_critic"], "", "Sweep"))["At equal budgets"]
    assert [list(row) for row in alone] == [["setting", "200 generator updates", "2.0 seconds of a device"]]


def test_points_that_are_not_done_are_left_out(tmp_path, undrawn):
    rows = (
        grid() + point("c", {"penalty.weight": 1.0}, [0.4], done=False) + point("d", {"penalty.weight": 5.0}, [0.4], done=False)
    )
    text = write_summary(tmp_path, rows, ["penalty.weight"], "", "Sweep")
    assert "Done are 12 runs of 2 settings" in text
    assert "2 more have begun and are left out." in text
    assert [row["n"] for row in tables(text)["Settings"]] == ["6", "6"]


def test_means_where_thirty_runs_are_finite(tmp_path, undrawn):
    rows = [row for i in range(30) for row in point(f"{i}", {"clip": 0.1}, [1.0], test=i / 10)]
    rows += [row for i in range(30) for row in point(f"dead{i}", {"clip": 0.2}, [1.0], test=i / 10, dies=i == 3)]
    finite, dead = tables(write_summary(tmp_path, rows, ["clip"], "", "Sweep"))["Settings"]
    mean, low, high = (float(part.strip("[,]")) for part in finite["mean `wasserstein_excess`"].split())
    half = 1.96 * np.std(np.arange(30) / 10, ddof=1) / math.sqrt(30)
    assert (mean, low, high) == pytest.approx((1.45, 1.45 - half, 1.45 + half), abs=0.03)
    assert dead["mean `wasserstein_excess`"] == "-"


def draws():
    """Twelve widths under two methods: b is the better by .1 but fails from width 9, a from width 7 on."""
    rows = []
    for index in range(12):
        for method, loss, clip, gain, limit in (("a", "hinge", 0.0, 0.1, 6), ("b", "wasserstein", 0.01 * (index + 1), 0.0, 8)):
            score = 0.2 + index / 100 + gain + (index >= limit)
            values = {"method": method, "model.width": 10 + index, "loss": loss, "clip": clip}
            rows += point(f"{method}{index}", values, [score], test=score + 0.001)
    return rows


def test_a_random_search(tmp_path):
    text = write_summary(tmp_path, draws(), ["model.width", "loss", "clip"], "wasserstein_excess>1", "Search")
    found = tables(text)
    a, b = found["Best of k"]
    # k = 1: the mean of all; of a .301 + .055 + .5, of b .201 + .055 + 4 / 12
    assert list(a.values())[:3] == ["a", "6 of 12, 50% [25%, 75%]", "0.856 (50%)"]
    assert list(b.values())[:3] == ["b", "4 of 12, 33% [14%, 61%]", "0.589 (33%)"]
    assert a["k = 2"].endswith(f"({math.comb(6, 2) / math.comb(12, 2):.0%})")
    assert list(a)[2:] == ["k = 1", "k = 2", "k = 5", "k = 10"]
    (pair,) = found["The same settings under two methods"]
    # widths 10 .. 15 under both, 16 and 17 under b alone, 18 .. 21 under none; clip is b's own
    assert list(pair.values()) == ["a", "b", "12", "6", "0", "2", "4"]
    assert "P(A beats B)" not in found
    assert found["Settings"][0]["setting"] == "b, width 10, clip 0.01"
    assert found["Settings"][0]["failed"] == "0 of 1"
    for name in ("results", "curves", "budget", "thresholds"):
        assert f"`figures/{name}.png`" in text
        assert np.ptp(np.asarray(Image.open(tmp_path / "figures" / f"{name}.png").convert("L"))) > 100


def test_fresh_seeds_of_a_chosen_setting_are_no_draws(tmp_path, undrawn):
    rows, keys = draws(), ["model.width", "loss", "clip"]
    before = tables(write_summary(tmp_path, rows, keys, "wasserstein_excess>1", "Search"))["Best of k"]
    for seed in range(5):
        values = {"method": "b", "model.width": 10, "loss": "wasserstein", "clip": 0.01}
        rows += point(f"fresh{seed}", values, [5.0])
    assert tables(write_summary(tmp_path, rows, keys, "wasserstein_excess>1", "Search"))["Best of k"] == before


def test_a_sweep_of_which_nothing_is_finite(tmp_path):
    rows = [row for i in range(3) for row in point(f"{i}", {"clip": 0.1}, [0.5] * i + [1.0], dies=True)]
    text = write_summary(tmp_path, rows, ["clip"], "modes<8", "Sweep")
    (row,) = tables(text)["Settings"]
    assert (row["setting"], row["failed"]) == ("wgan_gp", "3 of 3, 100% [44%, 100%]")
    assert (row["`wasserstein_excess`"], row["`wasserstein_excess`, best state"]) == ("∞", "∞")
    assert "At equal budgets" not in text
    assert (tmp_path / "figures" / "results.png").is_file()


def test_a_logarithmic_axis_where_one_key_spans_a_decade(tmp_path, undrawn, monkeypatch):
    drawn = []
    monkeypatch.setattr(sweep_figures, "results_figure", lambda *args: drawn.append(args) or RESULTS_FIGURE(*args))
    rows = []
    for name, weight in itertools.product(("one_sided", "two_sided"), (0.1, 1.0, 10.0)):
        rows += point(f"{name}{weight}", {"penalty.name": name, "penalty.weight": weight}, [weight], dies=weight == 10)
    write_summary(tmp_path, rows, ["penalty.name", "penalty.weight"], "wasserstein_excess>0.5", "Sweep")
    (columns, _, axis, _) = drawn.pop()
    assert axis == "penalty.weight"
    assert [(column.level, column.place) for column in columns[:3]] == [("one_sided", w) for w in (0.1, 1.0, 10.0)]
    assert [(column.values.tolist(), column.failed.tolist()) for column in columns[3:]] == [
        ([0.1], [False]),
        ([1.0], [True]),
        ([math.inf], [True]),
    ]
    assert np.ptp(np.asarray(Image.open(tmp_path / "figures" / "results.png").convert("L"))) > 100
    monkeypatch.setattr(sweep_figures, "results_figure", lambda *args: drawn.append(args) or Figure())
    for values in ({"x": [0.0, 1.0, 10.0]}, {"x": [1.0, 10.0]}, {"x": [1.0, 2.0, 3.0]}):
        rows = [row for value in values["x"] for row in point(f"{value}", {"x": value}, [1.0])]
        write_summary(tmp_path, rows, ["x"], "", "Sweep")
        assert drawn.pop()[2] == ""


def test_a_sweep_that_has_just_begun(tmp_path):
    text = write_summary(tmp_path, point("a", {"clip": 0.1}, [0.5], done=False), ["clip"], "", "Sweep")
    assert "Done are 0 runs of 0 settings" in text
    assert "1 more have begun" in text
    assert write_summary(tmp_path, [], ["clip"], "", "Sweep").startswith("# Sweep\n\nDone are 0 runs")


def test_a_wrong_condition_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"config\.eval\.fail"):
        write_summary(tmp_path, grid(), ["penalty.weight"], "modes", "Sweep")


def test_the_order_of_rows_is_that_of_the_points_alone(tmp_path, undrawn):
    rows = grid()
    assert write_summary(tmp_path, rows[::-1], ["penalty.weight"], "", "S") == write_summary(
        tmp_path, rows, ["penalty.weight"], "", "S"
    )


def test_settings_are_sorted_and_their_runs_gathered():
    rows = point("a", {"x": 10}, [1.0]) + point("b", {"x": 2}, [1.0]) + point("c", {"x": 10}, [1.0], dies=True)
    settings, pending = settings_of(rows, ["x"], [])
    assert [(s.label, s.values, [run.failed for run in s.runs]) for s in settings] == [
        ("x 2", {"x": 2}, [False]),
        ("x 10", {"x": 10}, [False, True]),
    ]
    assert pending == 0


def test_a_failure_is_judged_on_the_last_state():
    rows = point("a", {}, [1.0], modes=8) + point("b", {}, [1.0], modes=8)
    rows[1]["modes"] = rows[5]["modes"] = 7  # the last state of a, the best of b
    ((_, _, runs),), _ = settings_of(rows, [], parse_conditions("modes<8"))
    assert [run.failed for run in runs] == [True, False]


def test_a_point_whose_rows_on_validation_are_lost_is_left_out():
    lost = [row for row in point("b", {}, [1.0]) if row["split"] == "test"]
    assert lost
    ((_, _, runs),), _ = settings_of(point("a", {}, [1.0]) + lost, [], parse_conditions(""))
    assert len(runs) == 1


def test_labels_are_short_and_clear():
    assert labels_of([]) == []
    assert labels_of(
        [{"penalty.weight": 10.0, "penalty.name": "two_sided"}, {"penalty.weight": 0.1, "penalty.name": "one_sided"}]
    ) == [
        "weight 10, two_sided",
        "weight 0.1, one_sided",
    ]
    rates = [{"critic.learning_rate": rate, "generator.learning_rate": 2e-4, "data.flip": True} for rate in (1e-4, 3.14159e-5)]
    assert labels_of(rates) == [
        "critic.learning_rate 0.0001, generator.learning_rate 0.0002, flip True",
        "critic.learning_rate 3.14e-05, generator.learning_rate 0.0002, flip True",
    ]
    activations = [
        {"model.generator_activation": g, "model.critic_activation": c} for g, c in (("relu", "tanh"), ("relu", "relu"))
    ]
    assert labels_of(activations) == [
        "generator_activation relu, critic_activation tanh",
        "generator_activation relu, critic_activation relu",
    ]
    methods = [{"method": m, "loss": loss, "width": w} for m, loss in (("gan", "bce"), ("wgan", "wasserstein")) for w in (1, 2)]
    assert labels_of(methods) == ["gan, width 1", "gan, width 2", "wgan, width 1", "wgan, width 2"]


def test_a_label_says_what_is_turned_on_one_at_a_time():
    """Of eight settings and more: of fewer, a value that one does not have is told of all."""
    usual = {f"terms.{name}": 0.0 for name in "abcdefg"}
    one_at_a_time = [usual, *(usual | {key: 0.5} for key in usual)]
    assert labels_of(one_at_a_time) == ["base", *(f"{name} 0.5" for name in "abcdefg")]
    both = [{"weight": weight, "clip": clip} for weight in (1, 2, 3, 4) for clip in (0.1, 0.2)]
    assert labels_of(both)[:2] == ["weight 1, clip 0.1", "weight 1, clip 0.2"]
    methods = [{"method": "wgan_gp", "weight": weight} for weight in range(9)] + [{"method": "wgan", "weight": 0}]
    assert labels_of(methods)[-2:] == ["wgan_gp, weight 8", "wgan, weight 0"]
    assert labels_of([{"method": own["method"]} for own in methods])[-2:] == ["wgan_gp", "wgan"]
    assert labels_of(one_at_a_time[:7])[1] == "a 0.5, b 0, c 0, d 0, e 0, f 0"


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (-0.001, "-0.001"), (12345.6, "12346"), (math.inf, "∞"), (8, "8"), ("relu", "relu")]
)
def test_numbers(value, text):
    assert number(value) == text


def test_a_selected_setting_is_reported_by_its_fresh_runs(tmp_path, undrawn):
    """The draws' own runs are why one was chosen: its lucky one counts among the draws, and not in its result."""
    rows = [row for i in range(12) for row in point(f"d{i}", {"clip": float(i + 1)}, [0.1 if i == 3 else 0.5], modes=8)]
    for seed in range(3):
        fresh = point(f"f{seed}", {"clip": 4.0}, [0.6 + seed / 10], modes=8)
        rows += [{**row, "stage": 1, "seed": 100 + seed} for row in fresh]
    text = write_summary(tmp_path, rows, ["clip"], "modes<8", "a study")
    told = tables(text)
    assert [(line["setting"], line["n"], line["`wasserstein_excess`"]) for line in told["Settings"]] == [("clip 4", "3", "0.7")]
    assert told["Best of k"][0]["k = 10"] == "0.167 (0%)"  # 10 of 12 choices hold the lucky one: (10 * 0.1 + 2 * 0.5) / 12
    assert "stage 1 chose" in text
