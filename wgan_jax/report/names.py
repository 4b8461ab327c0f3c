"""What reports call things: the score, which values are better, the label of a setting, the text of a number, signs."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

type Direction = Literal["lower", "higher", ""]  # which values are better; "" where none are, or those near a number

MANY, MOST = 8, 0.75  # settings of which that share has a value that goes without saying
ALWAYS = ("method", "preset", "loss")  # what is told also then
BASE = "base"  # label of the setting that nothing was changed of
SCORE = "wasserstein_excess"  # what `best` and every selection go by
# Of every value of an evaluation; a critic's own say nothing of the generator by themselves.
DIRECTIONS: dict[str, Direction] = {
    "wasserstein_empirical": "lower",
    "wasserstein_floor": "",
    "wasserstein_ratio": "lower",
    SCORE: "lower",
    "sliced_wasserstein": "lower",
    "energy_distance": "lower",
    "mmd": "lower",
    "total_variation": "lower",
    "jensen_shannon": "lower",
    "copying_z": "",  # far below 0 for copies, far above for noise
    "modes": "higher",
    "good_share": "higher",
    "mode_tv": "lower",
    "mode_sigma": "",  # 1 is the law's own
    "wasserstein_quantile": "lower",
    "mean": "",
    "std": "",
    "frechet_distance": "lower",
    "kernel_distance": "lower",
    "kernel_distance_spread": "",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "two_sample_accuracy": "",  # .5 for one law
    "two_sample_real": "",
    "two_sample_generated": "",
    "inception_score": "higher",
    "inception_score_spread": "",
    "smallest_class": "higher",
    "class_balance": "higher",
    "classes_covered": "higher",
    "label_agreement": "higher",
    "smallest_agreement": "higher",
    "column_distance": "lower",
    "worst_column": "lower",
    "association_difference": "lower",
    "detection_auc": "lower",  # .5 for one law
    "utility": "higher",
    "utility_of_training_rows": "",
    "condition_agreement": "higher",
    "label_correlation": "higher",
    "estimate_train": "",
    "estimate_heldout": "",
    "lipschitz_q99": "",
    "estimate_normalised": "",
    "c_transform_bound": "",
    "classifier_error": "lower",
}
# Metrics that a summary has, as far as they were measured.
HEADLINE = (
    *(SCORE, "wasserstein_quantile", "modes", "good_share", "precision", "recall"),
    *("smallest_class", "label_agreement", "classifier_error", "detection_auc", "utility"),
)
ASCII = str.maketrans({"±": "+-", "∞": "inf", "≥": ">=", "≤": "<=", "→": "->", "↓": "v", "↑": "^", "─": "-"})


def labels_of(swept: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a short label for every {key: value}, such as "weight 10, two_sided".

    Left out is a key that one before it determines, as the method does its loss, and of MANY settings a value that MOST share,
    as of what is turned on one at a time; with all at such values it is the BASE. A name stands without its key where no
    other key takes it.
    """
    if not swept:
        return []
    kept: list[str] = []
    for key in swept[0]:
        column = [own[key] for own in swept]
        others = [[own[other] for own in swept] for other in kept]
        repeats = [other for other in others if 1 < len(set(other)) <= len(swept) / 2]  # a number drawn anew determines nothing
        if column not in others and not any(len(set(zip(other, column, strict=True))) == len(set(other)) for other in repeats):
            kept.append(key)
    leaves = [key.rsplit(".", 1)[-1] for key in kept]
    short = {key: leaf if leaves.count(leaf) == 1 else key for key, leaf in zip(kept, leaves, strict=True)}
    texts = {key: {own[key] for own in swept if isinstance(own[key], str)} for key in kept}

    alone = [key for key in kept if not any(texts[key] & texts[other] for other in kept if other != key)]

    def part(key: str, value: Any) -> str:
        return value if isinstance(value, str) and value and key in alone else f"{short[key]} {number(value)}"

    columns = {key: [json.dumps(own[key]) for own in swept] for key in kept if key not in ALWAYS}
    counts = {key: Counter(column).most_common(1)[0] for key, column in columns.items()}
    usual = {key: value for key, (value, count) in counts.items() if len(swept) >= MANY and MOST <= count / len(swept) < 1}
    told = [[part(key, own[key]) for key in kept if json.dumps(own[key]) != usual.get(key)] for own in swept]
    return [", ".join(parts) or (BASE if usual else "") for parts in told]


def number(value: Any) -> str:
    """Returns a value as a summary writes it; numbers have three digits, NaN, which is no value, is "-"."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "∞"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def written(text: str, encoding: str) -> str:
    """Returns a text with the signs put into letters that an encoding does not have: "1 +- 2" in ascii."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return text.translate(ASCII)
    return text
