"""What every launcher does with a task: it tries it, tells of a failure at once, and names all failures at the end."""

import sys
import traceback
from collections.abc import Callable, Sequence

from wgan_jax.errors import NonFiniteError, UserError, said_by_system

type RunTask = Callable[[str, str], None]  # (workdir, task id); a module's function, as other processes import it


def attempt(run_task: RunTask, workdir: str, task_id: str) -> str | None:
    """Runs a task; returns None, or why it failed. The traceback of what is no user's mistake goes to stderr."""
    try:
        run_task(workdir, task_id)
    except (UserError, NonFiniteError) as error:
        return str(error)
    except Exception as error:
        if isinstance(error, OSError) and (said := said_by_system(error)):
            return said
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def report_failure(task_id: str, reason: str | None) -> bool:
    if reason is not None:
        print(f"task {task_id} failed: {reason}", file=sys.stderr, flush=True)
    return reason is not None


def end(failed: Sequence[str], task_ids: Sequence[str]) -> None:
    if failed:
        names = ", ".join(failed)
        raise UserError(f"{len(failed)} of {len(task_ids)} tasks failed: {names}; the same command tries them again")
