"""What a person sees: texts as values, a terminal's screen at three widths, a pipe's lines by a fake clock, TensorBoard."""

import io
import itertools
import math
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pyte
import pytest
from rich.console import Console

import wgan_jax.training.loop as loop_module
from experiments.run import run
from wgan_jax.errors import Interrupted
from wgan_jax.evaluation.evaluator import Sizes
from wgan_jax.training import display as module
from wgan_jax.training import results
from wgan_jax.training.display import (
    Display,
    evaluation_line,
    members_line,
    print_summary,
    progress_line,
    say,
    span,
)
from wgan_jax.training.interruption import Signals
from wgan_jax.training.logging import board_tag
from wgan_jax.types import Player, TrainState

EVALUATION = {
    "eval/wasserstein_ratio": 1.0812,
    "eval/wasserstein_excess": 0.1249,
    "eval/precision": 0.8,
    "eval/recall": 0.611,
    "eval/copying_z": 4.0,
    "eval/raw/wasserstein_ratio": 9.0,
}
SENTENCE = "step 900/3000: excess 0.12, ratio 1.08, precision 0.80, recall 0.61"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def terminal(width):
    return Console(file=io.StringIO(), force_terminal=True, width=width, _environ={"TERM": "xterm"})


def pipe(encoding="utf-8"):
    """A console on a file of an encoding, which refuses what it cannot hold."""
    return Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), width=80, _environ={})


def lines_of(console):
    console.file.flush()
    return console.file.buffer.getvalue().decode(console.file.encoding).splitlines()


def screen_of(console, width):
    """What stands on a terminal of so many columns that was sent a console's output."""
    screen = pyte.Screen(width, 60)
    screen.set_mode(pyte.modes.LNM)  # the terminal's driver makes \r\n of \n
    pyte.Stream(screen).feed(console.file.getvalue())
    return [line.rstrip() for line in screen.display if line.strip()]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (12, "12 s"), (99.4, "99 s"), (99.6, "2 min"), (3600, "60 min"), (7500, "2 h 5 min")],
)
def test_a_time_is_said_as_a_person_would(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 60, "compiling"), "0/60 compiling"),
        ((30, 60, "training", 123.4, 12.2), "30/60 training, 123 updates/s, 12 s left"),
        ((30, 60, "training", 3.21, 240), "30/60 training, 3.2 updates/s, 4 min left"),
        ((30, 60, "training", 0.25, 120), "30/60 training, 4.0 s per update, 2 min left"),
        ((30, 60, "evaluating", 123.4, 12.2), "30/60 evaluating, 12 s left"),
        ((60, 60, "training", 123.4, 0.0), "60/60 training"),
    ],
)
def test_a_progress_line(arguments, text):
    assert progress_line(*arguments) == text


def test_an_evaluation_is_a_line_of_what_matters():
    assert evaluation_line(900, 3000, EVALUATION) == SENTENCE
    others = {
        "eval/raw/frechet": 9.0,
        "eval/frechet": 137.26,
        "eval/inception_score": None,
        "eval/kernel_ratio": math.nan,
        "eval/kernel_distance": 10.04,
    }
    assert evaluation_line(9, 30, others) == "step 9/30: frechet 137, kernel distance 10.0"
    assert evaluation_line(9, 30, {"eval/wasserstein_excess": None}) == "step 9/30: no metric has a value"


def test_an_evaluation_of_members():
    assert members_line(9, 30, 4, [0.5, 0.1234, None, math.nan]) == "step 9/30: 4 of 4 finite, excess 0.12 to 0.50"
    assert members_line(9, 30, 4, []) == "step 9/30: 0 of 4 finite"


def test_the_time_left_is_smooth_and_has_the_evaluations_in_it():
    """Calls of 1 s at 100 and at 50 updates/s in turn; evaluations take 20 s."""
    clock = Clock()
    display = Display("x", 10_000, 1000, console=terminal(80), clock=clock)
    display.begin(0)
    said = []
    for call in range(60):
        updates = (100, 50)[call % 2]
        display.show(display._step + updates, updates)
        if call == 10:
            display.state("evaluating")
            clock.now += 20
            display.state("training")
        said.append(display._progress.tasks[0].description)
    assert said[40] == "3100/10000 training, 76 updates/s, 4 min left"  # 6900 / 76 + 7 * 20 = 231 s
    rates = [int(text.split(", ")[1].split()[0]) for text in said[20:]]
    assert max(rates) - min(rates) <= 4


def test_a_resumed_run_counts_from_where_it_goes_on():
    console = pipe()
    display = Display("x", 10_000, 1000, console=console, clock=Clock())
    display.begin(5000)
    display.show(5010, 10.0)
    assert lines_of(console) == ["5000/10000 compiling", "5010/10000 training, 10 updates/s, 8 min left"]


def test_a_run_that_is_trained_compiles_nothing():
    console = pipe()
    Display("x", 10, 5, console=console, clock=Clock()).begin(10)
    assert lines_of(console) == ["10/10 evaluating"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_an_evaluation_stands_above_one_bar(width):
    """At every width: the bar is one line of the screen, whole, and with room for the echo of Ctrl-C."""
    console = terminal(width)
    with Display("wgan_gp:digits", 100_000, 300, console=console, clock=Clock()) as display:
        display.begin(0)
        for step in (300, 600, 900):
            display.show(step, 12.3)
            display.state("evaluating")
            display.evaluation(EVALUATION)
            display.state("training")
        display.say("SIGINT: saving, then ending")
        display._progress.refresh()  # as it does ten times a second
        inside = screen_of(console, width)
    for screen in (inside, screen_of(console, width)):
        *above, bar = screen
        assert bar.endswith(" 900/100000 training, 12 updates/s, 2 h 14 min left")
        assert bar.startswith("━")
        assert len(bar) <= width - 2
        assert not any("━" in line for line in above)
        wanted = [SENTENCE.replace("900/3", f"{step}/100") for step in (300, 600, 900)]
        assert " ".join(above) == " ".join(["wgan_gp:digits, 100000 updates", *wanted, "SIGINT: saving, then ending"])


def test_a_pipe_gets_a_line_per_tenth():
    """3,200 updates of 10 ms, logged every 20: not 160 lines."""
    console, clock = pipe(), Clock()
    display = Display("wgan_gp:cifar10", 3200, 1600, console=console, clock=clock)
    display.begin(0)
    for step in range(1, 3201):
        clock.now += 0.01
        display.show(step, 100.0, 1.5)
    lines = lines_of(console)
    assert [line.split()[0] for line in lines] == ["0/3200", "1/3200", *(f"{320 * tenth}/3200" for tenth in range(1, 11))]
    assert lines[0] == "0/3200 compiling"
    assert lines[1] == "1/3200 training, 100 updates/s, 32 s left, wasserstein estimate 1.5"


def test_a_slow_run_speaks_every_half_minute():
    """Updates of 8 s; an evaluation of 100 s, during which only a clock moves."""
    console, clock = pipe(), Clock()
    display = Display("wgan_gp:cifar10", 1000, 500, console=console, clock=clock)
    display.begin(0)
    said, before = [], 0

    def note():
        nonlocal before
        if len(lines_of(console)) > before:
            before = len(lines_of(console))
            said.append(clock.now)

    note()
    for step in range(1, 51):
        clock.now += 8
        display.show(step, 1 / 8)
        note()
    display.state("evaluating")
    for _ in range(100):
        clock.now += 1
        display.tick()
        note()
    gaps = [later - earlier for earlier, later in itertools.pairwise(said)]
    assert max(gaps[1:]) <= module.SILENCE + 2
    assert min(gaps[1:]) >= module.SILENCE - 2
    assert lines_of(console)[-1].startswith("50/1000 evaluating for ")


def test_without_calls_a_thread_speaks():
    console, clock = pipe(), Clock()
    with Display("x", 10, 5, console=console, clock=clock) as display:
        display.begin(0)
        clock.now += 65
        deadline = time.monotonic() + 20
        while len(lines_of(console)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert lines_of(console) == ["x, 10 updates", "0/10 compiling", "0/10 compiling for 65 s"]


def test_a_dumb_terminal_gets_lines():
    console = Console(file=io.StringIO(), force_terminal=True, width=60, _environ={"TERM": "dumb"})
    with Display("x", 10, 5, console=console, clock=Clock()) as display:
        display.begin(0)
        display.show(5, 10.0)
        display.evaluation(EVALUATION)
    assert "\x1b" not in console.file.getvalue()
    assert console.file.getvalue().splitlines()[2] == "5/10 training, 10 updates/s, 0 s left"


def test_signs_become_letters_where_the_encoding_has_none():
    console = pipe("ascii")
    say("excess ∞, 1 ± 2", console)
    assert lines_of(console) == ["excess inf, 1 +- 2"]


SUMMARY = """# ablation.py: 4 points

Done are 4 runs of 2 settings; n counts the runs of a setting.
A run **fails** where it becomes non-finite.
Whatever is selected, has the lowest `wasserstein_excess` on validation.

## Settings

Medians over runs.

| setting | n | failed | `wasserstein_excess` | `precision` | `wasserstein_excess`, best state | seconds of a device, a run |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| weight 0.1, a label that is long enough to be broken | 2 | 2 of 2, 100% [34%, 100%] | 0.127 [0.1, 0.2] | 0.5 | 120 | 0.097 |
| weight 1 | 2 | 0 of 2, 0% [0%, 66%] | ∞ | 0.25 | 120 | 0.097 |

## P(A beats B)

| A | B = 1 |
| --- | ---: |
| 1. weight 0.1 | 0.50 |
"""


@pytest.mark.parametrize(("width", "shown"), [(40, 3), (60, 5), (80, 7)])
def test_a_terminal_gets_as_much_of_a_summary_as_has_room(width, shown):
    console = terminal(width)
    print_summary(SUMMARY, console)
    lines = screen_of(console, width)
    assert max(map(len, lines)) <= width
    assert lines[0] == "ablation.py: 4 points"
    assert not any("|" in line or "B = 1" in line for line in lines)
    (second,) = (line for line in lines if line.startswith("weight 1 "))
    assert (
        second.replace("0 of 2, 0%", "0of2").split() == ["weight", "1", "2", "0of2", "∞", "0.25", "120", "0.097"][: shown + 1]
    )
    assert any("[34%, 100%]" in line and "2 of 2" not in line and ("[0.1, 0.2]" in line) == (shown > 3) for line in lines)


def test_a_pipe_gets_all_of_a_summary():
    console = pipe()
    print_summary(SUMMARY, console)
    assert lines_of(console) == [*SUMMARY.splitlines(), ""]


def test_a_signal_is_told_of_at_once_and_once():
    told, arrived = [], threading.Event()

    def tell(number):
        told.append(number)
        arrived.set()

    with Signals() as signals:
        signals.deferred, signals.tell = True, tell
        signal.raise_signal(signal.SIGINT)
        assert arrived.wait(10)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.05)
    assert told == [signal.SIGINT]
    assert signals.received == signal.SIGTERM


TINY = {
    "batch_size": 8,
    "model.width": 8,
    "model.depth": 1,
    "steps": 4,
    "log_every": 1,
    "eval_every": 2,
    "sample_every": 2,
    "checkpoint_every": 2,
    "eval.samples": 30,
    "eval.feature_samples": 30,
    "eval.draws": 1,
    "cache_dir": "",
    "devices": 1,
}


@pytest.fixture
def arguments(root):
    return [f"--config={root}/configs/wgan_gp.py:ring8", *(f"--config.{key}={value}" for key, value in TINY.items())]


@pytest.mark.slow
def test_a_run_in_a_pipe_and_in_tensorboard(arguments, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "run"
    run([*arguments, "--config.eval.raw=True", f"--workdir={folder}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"run directory: {folder}"
    assert lines.index("wgan_gp:ring8, 4 updates") + 1 == lines.index("0/4 compiling")
    ordered = [line.split(":")[0] for line in lines if line.startswith("step ")]
    assert ordered == ["step 2/4", "step 4/4"]
    assert lines[-1] == f"samples, figures, metrics.jsonl, summary.json: {folder}"

    events = EventAccumulator(str(folder / "tensorboard"), {"images": 0, "scalars": 0, "tensors": 0}).Reload()
    scalars = events.Tags()["scalars"]
    assert {name.split("/")[0] for name in scalars} == {"train", "eval", "eval_raw"}
    assert {"train/critic_loss", "eval/wasserstein_excess", "eval_raw/wasserstein_excess"} <= {*scalars}
    assert not [name for name in scalars if name.split("/")[-1] in ("step", "critic_step", "examples", "seconds")]
    assert [event.step for event in events.Scalars("train/critic_loss")] == [1, 2, 3, 4]
    assert [event.step for event in events.Images("samples")] == [2, 4]
    (text,) = events.Tensors("config/text_summary")[0].tensor_proto.string_val
    assert "    critic.optimizer = 'adam'" in text.decode().splitlines()


def test_an_interrupted_run_says_that_it_saves(arguments, tmp_path, capsys, monkeypatch):
    class Interrupting(Display):
        def show(self, step, *rest):
            super().show(step, *rest)
            if step == 1:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop_module, "Display", Interrupting)
    with pytest.raises(Interrupted):
        run([*arguments, f"--workdir={tmp_path / 'run'}"])
    assert "SIGTERM: saving, then ending" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("name", "tag"),
    [("penalty", "train/penalty"), ("eval/recall", "eval/recall"), ("eval/raw/recall", "eval_raw/recall")],
)
def test_tensorboard_groups(name, tag):
    assert board_tag(name) == tag


def test_a_state_that_is_last_and_best_has_one_column(make_config):
    player = Player(params={}, model_state={}, opt_state={})
    state = TrainState(np.int32(7), np.int32(14), player, player, {}, {})
    evaluator = SimpleNamespace(
        sizes=lambda split: Sizes(5, 5),
        real_sizes=lambda split: Sizes(5, 5),
        of_generator=lambda generator, critic, split, draw: {"precision": 0.5},
        of_real=lambda split, draw: {"precision": 0.9},
    )
    columns = {}
    for best in (7, 3, None):
        checkpoints = SimpleNamespace(best=lambda at=best: at, best_score=lambda: 0.1, restore=lambda step, target: state)
        rows, found = results.on_test(make_config(), checkpoints, evaluator, state)
        columns[best] = ([*rows], found["best"] and found["best"]["step"])
    assert columns == {
        7: (["last and best, step 7", "real data"], 7),
        3: (["last, step 7", "best, step 3", "real data"], 3),
        None: (["last, step 7", "real data"], None),
    }


def test_the_final_draws_end_when_their_time_is_up(make_config, monkeypatch):
    player = Player(params={}, model_state={}, opt_state={})
    state = TrainState(np.int32(7), np.int32(14), player, player, {}, {})
    now = [0.0]

    def slow(*arguments):
        now[0] += 3.0
        return {"precision": float(arguments[-1])}

    evaluator = SimpleNamespace(
        sizes=lambda split: Sizes(5, 5), real_sizes=lambda split: Sizes(5, 5), of_generator=slow, of_real=slow
    )
    checkpoints = SimpleNamespace(best=lambda: 7, best_score=lambda: 0.1)
    monkeypatch.setattr(results.time, "perf_counter", lambda: now[0])
    config, draws = make_config(), {}
    config.eval.draws = 9
    for trained in (1.0, 400.0, 1e6):  # 10 s, 5 % of 400 s, enough; a draw takes 6 s, and a fourth would end after 24
        _, found = results.on_test(config, checkpoints, evaluator, state, trained)
        draws[trained] = found["draws"], found["final"]["precision"]
    assert draws == {1.0: (2, 0.5), 400.0: (3, 1.0), 1e6: (9, 4.0)}
    monkeypatch.setattr(results, "SECONDS", 0.0)
    assert results.on_test(config, checkpoints, evaluator, state, 0.0)[1]["draws"] == 2
