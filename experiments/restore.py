"""A trained model, restored from its directory: what launchers that look at one share. Imports no jax before it restores."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from configs.default import default_config
from experiments.launchers.task import read_task, task_names
from wgan_jax import runtime
from wgan_jax.config import check, flatten, override
from wgan_jax.errors import UserError
from wgan_jax.keys import KEYS, keys_of
from wgan_jax.places import check_data as check_data_of
from wgan_jax.training.workdir import MAY_CHANGE, check_same_data, chunk_size, identity, kind_of, read_config

if TYPE_CHECKING:
    from wgan_jax.data.attributes import Attributes
    from wgan_jax.data.columns import Columns
    from wgan_jax.data.dataset import Dataset
    from wgan_jax.data.scaling import Scaling
    from wgan_jax.types import Networks, Params, TrainState

DATA = tuple(key for key in MAY_CHANGE if key.startswith("data."))  # where a run's data lies, and how it is read
# What the command line and the defaults alone say, and no directory: whose file would else choose what is read, written and
# fetched, and from where compiled programs, which are native code, are loaded.
PLACES = (*keys_of("place", "cache"), "data.download")


class Model(NamedTuple):
    """Where a trained model is: a run, or a point of a sweep."""

    config: ConfigDict
    folder: Path  # of its samples, figures and evaluation.json
    checkpoints: Path
    whose: str  # they are, see `workdir.identity`
    point: str = ""  # the id of a point
    member: tuple[int, int] = (0, 1)  # a point's index among those whose states its checkpoints stack, and their number
    named: tuple[str, ...] = ()  # --config.key=value of PLACES as the directory has them: for messages alone


class Restored(NamedTuple):
    """A model at one of its checkpoints."""

    config: ConfigDict
    folder: Path
    networks: "Networks"
    scaling: "Scaling | Columns"  # of the examples that it makes
    step: int
    state: "TrainState"  # NumPy arrays
    info: dict[str, Any]  # saved with the checkpoint: the examples' shape, the data's fingerprint and class_counts, ...
    steps: list[int]  # that have a checkpoint
    at: Callable[[int], "TrainState"]  # the state of one of them
    attributes: "Attributes | None"  # that labels are combinations of


def generator_of(state: "TrainState", *, raw: bool) -> "Params":
    """Returns the variables of the generator itself, or of its average.

    Raises:
      UserError: the generator itself was not kept.
    """
    if raw and state.generator is None:
        raise UserError("--raw: of the best state of a sweep's point only the average is kept; use --step=latest")
    return state.generator.variables if raw else state.ema


def find_model(workdir: Path, point: str | None, overrides: Sequence[str] = (), keys: Sequence[str] = ()) -> Model:
    """Returns the model of a run directory, or of a sweep's directory the point whose id begins with `point`.

    overrides: `--config.key=value` of DATA, of cache_dir and of `keys`. PLACES are theirs or the defaults', not the run's.

    Raises:
      UserError: no run, no such point, or overrides of other keys.
    """
    config = check(read_config(workdir))
    if kind_of(workdir) == "sweep":
        model = _find_point(workdir, point)
    elif point is not None:
        raise UserError(f"--point: {workdir} holds a run, not a sweep")
    else:
        model = Model(config, workdir, workdir / "checkpoints", identity(config))
    stored, defaults = flatten(model.config), flatten(default_config())
    model.config.update_from_flattened_dict({key: defaults[key] for key in PLACES})
    own = tuple(f"--config.{key}={stored[key]}" for key in PLACES if KEYS[key].role == "place" and stored[key] != defaults[key])
    return model._replace(config=override(lambda: model.config, overrides, [*DATA, "cache_dir", *keys]), named=own)


@contextlib.contextmanager
def naming_places(model: Model) -> Iterator[None]:
    """Adds to a mistake of a place, made in this context, what the model's directory has for it: its user may confirm it."""
    try:
        yield
    except UserError as error:
        said = {
            word.removeprefix("--").partition("=")[0]: f"; its own config has {word}: give that if it is yours"
            for word in model.named
        }
        hints = ["".join(hint for key, hint in said.items() if line.startswith(f"{key}:")) for line in error.lines]
        raise UserError(*(line + hint for line, hint in zip(error.lines, hints, strict=True))) from error


def check_data(model: Model) -> None:
    """Checks that the data of a model is where this command says.

    Raises:
      UserError: it is not; with the place that the directory names.
    """
    with naming_places(model):
        check_data_of(model.config)


def _find_point(workdir: Path, point: str | None) -> Model:
    tasks = [read_task(workdir, name) for name in task_names(workdir)]
    places = {found.id: (task, index) for task in tasks for index, found in enumerate(task.points)}
    where = f"{workdir}/results.csv and `experiments.sweep --list` have their ids"
    if not point:
        raise UserError(f"--workdir: {workdir} holds a sweep of {len(places)} points; choose one with --point=ID ({where})")
    ids = [name for name in places if name.startswith(point)]
    if len(ids) != 1:
        count = f"{len(ids)} points begin so: {', '.join(ids[:5])}" if ids else f"none of its {len(places)} points begins so"
        raise UserError(f"--point: {point!r} in {workdir}: {count}; {where}")
    task, index = places[ids[0]]
    folder = workdir / "tasks" / task.id
    size = chunk_size(folder) or len(task.points)
    start = index // size * size
    chunk = task.points[start : start + size]
    checkpoints = folder / "checkpoints" / f"from_{start:05d}"
    whose, member = identity(*(point.config for point in chunk)), (index - start, len(chunk))
    return Model(task.points[index].config, workdir / "points" / ids[0], checkpoints, whose, ids[0], member)


def restore_run(model: Model, step: str) -> Restored:
    """Returns a model at step `latest`, `best` or a number, and sets JAX as its config asks.

    Raises:
      UserError: no such checkpoint, or a damaged one.
    """
    config = model.config
    runtime.configure_jax(config)
    import jax

    from wgan_jax.data.attributes import Attributes
    from wgan_jax.data.columns import Columns
    from wgan_jax.data.scaling import Scaling
    from wgan_jax.training.budget import check_state
    from wgan_jax.training.checkpoint import Checkpoints, DamagedError
    from wgan_jax.training.program import make_parts

    checkpoints = Checkpoints(model.checkpoints, run=model.whose)

    def read(number: int) -> Restored:
        info = checkpoints.info(number, "shape", "scaling", "data")
        scaling = (Columns if "columns" in info["scaling"] else Scaling).of_json(info["scaling"])
        attributes = Attributes.of_json(info.get("attributes"))
        networks, steps = make_parts(
            config,
            tuple(info["shape"]),
            classes=len(info.get("class_counts", ())),
            attributes=attributes,
            bounded=scaling.bounded,
            layout=scaling.layout,
        )
        fresh = jax.eval_shape(steps.init_state, jax.random.key(0))
        at: Callable[[int], TrainState] = functools.partial(checkpoints.restore, target=fresh)
        if model.point:
            from wgan_jax.training.members import restore_member

            at = functools.partial(restore_member, checkpoints, fresh, model.point, model.member, best=step == "best")
        check_state(config, steps.init_state)
        state = at(number)
        reached = int(state.step) if model.point else number  # a point's best state is of a step before its checkpoint
        return Restored(config, model.folder, networks, scaling, reached, state, info, checkpoints.steps(), at, attributes)

    try:
        return checkpoints.reading("latest" if model.point and step == "best" else step, read)
    except DamagedError as error:
        raise UserError(f"{error}; choose another --step, or move it away") from error


def load_data(restored: Restored) -> "Dataset":
    """Returns the dataset that a run was trained on.

    Raises:
      UserError: it is not there, or the images are others.
    """
    from wgan_jax.data import load_dataset

    dataset = load_dataset(restored.config)
    check_same_data(restored.info["data"], dataset.fingerprint)
    return dataset
