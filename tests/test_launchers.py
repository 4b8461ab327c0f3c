"""The launchers, on tasks that only write files: in this process, in processes with shares of the machine, as jobs."""

import argparse
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import submitit  # here, as its log keeps the stdout of its import, which a test's capture closes

from experiments import launchers
from experiments.launchers import pool
from experiments.launchers import slurm as slurm_module
from wgan_jax import runtime
from wgan_jax.errors import Interrupted, NonFiniteError, UserError
from wgan_jax.training.interruption import Signals

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0))
DRIVER = """
import sys
from experiments import command, launchers
import test_launchers
def run(argv):
    parser = command.Parser("toy", "")
    launchers.add_flags(parser)
    flags, _ = parser.parse(argv[3:])
    launchers.choose(flags)(getattr(test_launchers, argv[0]), argv[1], argv[2].split(","), flags)
command.main(run)
"""


def write(workdir, task_id):
    """What a task of each name does: fails in its own way, or writes where it ran."""
    print(f"begins {task_id}", flush=True)
    if task_id == "accented":
        print("é")
    if task_id == "mistaken":
        raise UserError("config.x: wrong")
    if task_id == "infinite":
        raise NonFiniteError("training became non-finite")
    if task_id == "broken":
        raise ZeroDivisionError("a bug")
    if task_id == "stopped":
        raise Interrupted(signal.SIGTERM)
    if task_id == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    here = {"device": os.environ.get("CUDA_VISIBLE_DEVICES"), "cores": sorted(os.sched_getaffinity(0)), "pid": os.getpid()}
    Path(workdir, task_id).write_text(json.dumps(here), encoding="utf-8")


def meet(workdir, task_id):
    """Ends once two tasks run at the same time."""
    write(workdir, task_id)
    until(lambda: len(list(Path(workdir).glob("[ab]"))) == 2)


def endless(workdir, task_id):
    """Goes on until a signal; then saves, which takes a while, and says which it was and which it has not heard of yet."""
    with Signals() as signals:
        signals.deferred = True
        Path(workdir, f"{task_id}.begun").touch()
        while not signals.received:
            time.sleep(0.02)
        time.sleep(0.3)
        with Path(workdir, f"{task_id}.saved").open("a", encoding="utf-8") as file:
            file.write(f"{signals.received:d} {[number.name for number in signal.sigpending()]}")
        raise Interrupted(signals.received)


def timed_out(workdir, task_id):
    """Is told at its first attempt that its time is up, and ends well at its second."""
    first = not Path(workdir, f"{task_id}.saved").exists()
    with Signals() as signals:
        signals.deferred = True
        if first:
            os.kill(os.getpid(), signal.SIGUSR2)
            Path(workdir, f"{task_id}.saved").touch()
            raise Interrupted(signals.received)
    write(workdir, task_id)


def compute(workdir, task_id):
    """Writes how many threads XLA computes with."""
    import jax

    (jax.numpy.ones(8) + 1).block_until_ready()
    names = [path.read_text(encoding="utf-8").strip() for path in Path("/proc/self/task").glob("*/comm")]
    Path(workdir, task_id).write_text(json.dumps(names.count("tf_XLAEigen")), encoding="utf-8")


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def flags_of(*argv):
    parser = argparse.ArgumentParser()
    launchers.add_flags(parser)
    return parser.parse_args(argv)


def launch(run_task, workdir, task_ids, *argv):
    flags = flags_of(*argv)
    launchers.choose(flags)(run_task, str(workdir), task_ids, flags)


# A signal after each task that is handed out, as one may come on a busy machine, where its process runs before that returns.
EARLY = """
import os, signal, time
from concurrent.futures import ThreadPoolExecutor
submit = ThreadPoolExecutor.submit
def submit_and_interrupt(pool, function, *arguments):
    future = submit(pool, function, *arguments)
    if function.__name__ == "_in_process":
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)
    return future
ThreadPoolExecutor.submit = submit_and_interrupt
"""


def start(run_task, workdir, task_ids, *argv, before=""):
    """Starts a launcher as a command of its own, the leader of a process group, as a terminal does."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-c", before + DRIVER, run_task.__name__, str(workdir), ",".join(task_ids), *argv]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)


def read(workdir, task_id):
    return json.loads((workdir / task_id).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["--workers=2"], ["--workers: is a flag of --launcher=processes"]),
        (["--launcher=processes", "--time=5"], ["--time: is a flag of --launcher=slurm"]),
        (["--array-parallelism=5"], ["--array-parallelism: is a flag of --launcher=slurm"]),
        (["--launcher=slurm", "--slurm=qos=high", "--workers=1"], ["--workers: is a flag of --launcher=processes"]),
        (["--launcher=processes", "--workers=0"], ["--workers: 0 is not a whole number of at least 1"]),
        (
            ["--launcher=slurm", "--time=-1", "--gpus=0"],
            [f"--{flag} is not a whole number of at least 1" for flag in ("time: -1", "gpus: 0")],
        ),
    ],
)
def test_a_flag_that_does_not_fit_is_a_line(argv, lines):
    with pytest.raises(UserError) as caught:
        launchers.choose(flags_of(*argv))
    assert list(caught.value.lines) == lines


@pytest.mark.parametrize("name", launchers.LAUNCHERS)
def test_every_launcher_is_chosen_by_its_name(name):
    assert launchers.choose(flags_of(f"--launcher={name}")) is launchers.LAUNCHERS[name]


def test_vectorized_goes_on_after_a_failure_and_names_all_at_the_end(tmp_path, capsys):
    with pytest.raises(UserError, match=r"^3 of 5 tasks failed: mistaken, infinite, broken; the same command tries"):
        launch(write, tmp_path, ["a", "mistaken", "infinite", "broken", "b"])
    assert read(tmp_path, "a")["pid"] == read(tmp_path, "b")["pid"] == os.getpid()
    out, err = capsys.readouterr()
    assert out.split() == [word for name in ("a", "mistaken", "infinite", "broken", "b") for word in ("begins", name)]
    assert "task mistaken failed: config.x: wrong\ntask infinite failed: training became non-finite\nTraceback" in err
    assert err.endswith("task broken failed: ZeroDivisionError: a bug\n")


def test_vectorized_ends_at_an_interruption(tmp_path):
    with pytest.raises(Interrupted) as caught:
        launch(write, tmp_path, ["a", "stopped", "b"])
    assert caught.value.signum == signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("workers", "devices", "cores", "shares"),
    [
        (2, [], [0, 1, 2, 3], [(None, 0.75, (0, 1)), (None, 0.75, (2, 3))]),
        (3, [], [4, 5, 6, 7], [(None, 0.25, (4,)), (None, 0.25, (5,)), (None, 0.25, (6, 7))]),
        (3, [], [0, 1], [(None, 0.25, (0,)), (None, 0.25, (0,)), (None, 0.25, (1,))]),
        (2, ["3", "7"], [0, 1, 2], [("3", 0.75, (0,)), ("7", 0.75, (1, 2))]),
        (3, ["3", "7"], [0, 1, 2], [("3", 0.375, (0,)), ("7", 0.375, (1,)), ("3", 0.375, (2,))]),
    ],
)
def test_shares(workers, devices, cores, shares):
    found = pool.divide(workers, devices, cores)
    assert [share.cores for share in found] == [cores for _, _, cores in shares]
    assert [share.device for share in found] == [device for device, _, _ in shares]
    assert [share.memory for share in found if devices] == [memory for _, memory, _ in shares if devices]


def test_devices_are_those_that_jax_would_see(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 0\necho 1\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert runtime.visible_devices() == []
    monkeypatch.delenv("JAX_PLATFORMS")
    assert runtime.visible_devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5f,3")
    assert runtime.visible_devices() == ["GPU-5f", "3"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert runtime.visible_devices() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    smi.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert runtime.visible_devices() == []


def test_processes_at_the_same_time_have_different_devices_and_cores(tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    launch(meet, tmp_path, ["a", "b"], "--launcher=processes")
    a, b = read(tmp_path, "a"), read(tmp_path, "b")
    assert {a["device"], b["device"]} == {"3", "7"}
    assert len({a["pid"], b["pid"], os.getpid()}) == 3
    if len(CORES) > 1:
        assert sorted(a["cores"] + b["cores"]) == CORES
    assert sorted(os.sched_getaffinity(0)) == CORES
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,7"


def test_xla_computes_on_its_share_of_the_cores_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(pool, "visible_cores", lambda: CORES[:1])
    launch(compute, tmp_path, ["a"], "--launcher=processes")
    assert read(tmp_path, "a") == 1


def test_processes_go_on_after_failures_and_a_kill(tmp_path, capfd):
    with pytest.raises(UserError) as caught:
        launch(write, tmp_path, ["mistaken", "killed", "broken", "a", "b"], "--launcher=processes", "--workers=2")
    assert str(caught.value).startswith("3 of 5 tasks failed: ")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "processes"}
    assert read(tmp_path, "a")["pid"] != read(tmp_path, "b")["pid"]
    out, err = capfd.readouterr()
    logs = tmp_path / "processes"
    assert f"task mistaken failed: config.x: wrong; log: {logs}/mistaken.log\n" in err
    assert "task killed failed: its process was killed" in err
    assert f"task broken failed: ZeroDivisionError: a bug; log: {logs}/broken.log\n" in err
    assert [line.split(" tasks")[0] for line in out.splitlines()] == [f"{done} of 5" for done in range(1, 6)]
    assert out.endswith("5 of 5 tasks ended, 3 failed\n")
    assert (logs / "a.log").read_text() == "begins a\n"
    assert (logs / "broken.log").read_text().startswith("begins broken\nTraceback")


def test_letters_that_a_log_does_not_have_cost_no_task(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    launch(write, tmp_path, ["accented"], "--launcher=processes")
    assert (tmp_path / "processes" / "accented.log").read_text() == "begins accented\n?\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_parent_reaches_the_workers_who_save(tmp_path, number):
    command = start(endless, tmp_path, ["a", "b", "c"], "--launcher=processes", "--workers=2")
    until(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
    os.kill(command.pid, number)
    _, err = command.communicate(timeout=120)
    assert command.returncode == 128 + number
    assert err == f"interrupted by {signal.Signals(number).name}; the same command goes on from the newest checkpoint\n"
    assert {path.name: path.read_text() for path in tmp_path.glob("*.saved")} == {"a.saved": "15 []", "b.saved": "15 []"}


def test_a_terminals_interrupt_of_all_processes_saves_once(tmp_path):
    command = start(endless, tmp_path, ["a", "b"], "--launcher=processes", "--workers=2")
    until(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
    os.killpg(command.pid, signal.SIGINT)
    command.communicate(timeout=120)
    assert command.returncode == 130
    assert {path.name: path.read_text() for path in tmp_path.glob("*.saved")} == {
        "a.saved": "15 ['SIGINT']",
        "b.saved": "15 ['SIGINT']",
    }


def test_a_terminals_interrupt_of_workers_that_only_start_ends_them_quietly(tmp_path):
    command = start(endless, tmp_path, ["a", "b"], "--launcher=processes", "--workers=2")
    tasks = Path(f"/proc/{command.pid}/task")
    until(lambda: sum(len(path.read_text().split()) for path in tasks.glob("*/children")) == 3)  # a resource tracker too
    os.killpg(command.pid, signal.SIGINT)
    _, err = command.communicate(timeout=120)
    assert command.returncode == 130
    assert err == "interrupted by SIGINT; the same command goes on from the newest checkpoint\n"


def test_an_interrupt_while_tasks_are_handed_out_reaches_those_that_run(tmp_path):
    command = start(endless, tmp_path, ["a", "b"], "--launcher=processes", "--workers=2", before=EARLY)
    try:
        _, err = command.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
    assert command.returncode == 130
    assert err == "interrupted by SIGINT; the same command goes on from the newest checkpoint\n"


@pytest.fixture
def local(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    monkeypatch.chdir(ROOT)
    return "--launcher=slurm", "--cluster=local"


def test_jobs_run_and_failures_come_with_their_logs(tmp_path, capsys, local):
    with pytest.raises(UserError, match=r"^3 of 5 tasks failed: "):
        launch(write, tmp_path, ["a", "mistaken", "broken", "killed", "b"], *local)
    assert read(tmp_path, "a")["pid"] != read(tmp_path, "b")["pid"]
    out, err = capsys.readouterr()
    jobs = json.loads((tmp_path / "slurm" / "jobs.json").read_text())
    logs = {name: f"log: {tmp_path}/slurm/{job}_0_log.err\n" for name, job in jobs.items()}
    assert f"task mistaken failed: config.x: wrong; {logs['mistaken']}" in err
    assert f"task broken failed: ZeroDivisionError: a bug; {logs['broken']}" in err
    assert f"task killed failed: its job ended without a result; {logs['killed']}" in err
    assert "Traceback" in (tmp_path / "slurm" / f"{jobs['broken']}_0_log.err").read_text()
    assert out.splitlines()[-1] == "0 pending, 0 running, 2 done, 3 failed"


def test_a_job_whose_time_is_up_is_requeued_after_it_has_saved(tmp_path, local):
    launch(timed_out, tmp_path, ["a"], *local)
    (log,) = (tmp_path / "slurm").glob("*_log.out")
    assert (tmp_path / "a").exists()
    assert log.read_text().count("Requeued job") == 1


def test_a_command_without_slurm_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"^--launcher=slurm: Could not detect \"srun\""):
        launch(write, tmp_path, ["a"], "--launcher=slurm")


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A Slurm that only takes jobs: sbatch numbers them, the file `queue` is what squeue answers."""
    programs = {
        "srun": "exit 1",
        "sbatch": f"echo $1 >> {tmp_path}/submitted\necho Submitted batch job 7$(wc -l < {tmp_path}/submitted)",
        "squeue": f"echo $* > {tmp_path}/asked\ncat {tmp_path}/queue",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queue").write_text("5 RUNNING\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setitem(slurm_module.POLL, "slurm", 0.02)
    (tmp_path / "sweep").mkdir()
    return tmp_path


def submissions(slurm):
    path = slurm / "submitted"
    return [Path(line).read_text() for line in path.read_text().splitlines()] if path.exists() else []


def test_flags_reach_sbatch(slurm):
    flags = ["--partition=big", "--account=us", "--time=90", "--gpus=2", "--cpus=8", "--array-parallelism=3"]
    with pytest.raises(UserError, match=r"^5 of 5 tasks failed: a, b, c, d, e;"):
        launch(write, slurm / "sweep", list("abcde"), "--launcher=slurm", *flags, "--slurm=qos=high", "--slurm=--exclusive")
    (script,) = submissions(slurm)
    asked = {line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")}
    wanted = {"partition=big", "account=us", "time=90", "gpus-per-node=2", "cpus-per-task=8", "array=0-4%3"}
    assert asked >= wanted | {"qos=high", "exclusive", "requeue", "job-name=sweep-sweep", "signal=USR2@90"}


def test_what_sbatch_refuses_is_a_line(slurm):
    (slurm / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"^--launcher=slurm: sbatch: error: invalid partition$"):
        launch(write, slurm / "sweep", ["a"], "--launcher=slurm")


def test_an_interrupted_command_leaves_its_jobs_and_the_next_waits_for_them(slurm, monkeypatch, capsys):
    (slurm / "queue").write_text("71_0 RUNNING\n71_1 PENDING\n")
    command = start(write, slurm / "sweep", ["a", "b"], "--launcher=slurm")
    lines = [command.stdout.readline() for _ in range(2)]
    assert lines[0].startswith("2 jobs submitted, 0 were in the queue; logs: ")
    assert lines[1] == "1 pending, 1 running, 0 done, 0 failed\n"
    command.send_signal(signal.SIGINT)
    out, _ = command.communicate(timeout=120)
    assert command.returncode == 130
    assert out.startswith("the jobs go on: squeue --me shows them, scancel 71 ends them; ")

    (slurm / "queue").write_text("71_1 PENDING\n")  # a has ended without a result: it alone is submitted again
    with pytest.raises(UserError, match=r"^2 of 2 tasks failed: a, b;"):
        launch_and_end(slurm, monkeypatch)
    assert len(submissions(slurm)) == 2
    assert "#SBATCH --array" not in submissions(slurm)[1]
    assert "1 jobs submitted, 1 were in the queue" in capsys.readouterr().out


def launch_and_end(slurm, monkeypatch):
    """Launches a and b; once their jobs have been waited for, the queue is empty."""
    sleep = time.sleep

    def empty(seconds):
        (slurm / "queue").write_text("")
        sleep(seconds)

    monkeypatch.setattr(slurm_module.time, "sleep", empty)
    launch(write, slurm / "sweep", ["a", "b"], "--launcher=slurm")


def test_a_result_that_comes_to_sight_after_its_job_has_left_the_queue(slurm, monkeypatch, capsys):
    (slurm / "queue").write_text("")
    record = slurm / "sweep" / "slurm" / "jobs.json"
    record.parent.mkdir()
    record.write_text('{"of another stage": "70_0"}')

    def see(_):
        (slurm / "sweep" / "slurm" / "71_0_result.pkl").write_bytes(pickle.dumps(("success", None)))

    monkeypatch.setattr(slurm_module.time, "sleep", see)
    launch(write, slurm / "sweep", ["a"], "--launcher=slurm")
    assert capsys.readouterr().out.splitlines()[-1] == "0 pending, 0 running, 1 done, 0 failed"
    assert json.loads(record.read_text()) == {"of another stage": "70_0", "a": "71"}


def test_a_job_that_could_not_load_its_task_fails_with_the_last_line(slurm, capsys):
    (slurm / "queue").write_text("")
    (slurm / "sweep" / "slurm").mkdir()
    trace = "Traceback (most recent call last):\n  File x\nModuleNotFoundError: no experiments\n"
    (slurm / "sweep" / "slurm" / "71_0_result.pkl").write_bytes(pickle.dumps(("error", trace)))
    with pytest.raises(UserError, match=r"^1 of 1 tasks failed: a;"):
        launch(write, slurm / "sweep", ["a"], "--launcher=slurm")
    assert "task a failed: ModuleNotFoundError: no experiments; log: " in capsys.readouterr().err


def test_a_queue_that_does_not_answer_is_asked_again(slurm, capsys):
    (slurm / "squeue").write_text(
        f"#!/bin/sh\necho >> {slurm}/asked\n"
        f"[ $(wc -l < {slurm}/asked) = 2 ] && echo controller is away >&2 && exit 1\n"
        f"[ $(wc -l < {slurm}/asked) -lt 5 ] && echo 71 RUNNING\nexit 0\n"
    )
    with pytest.raises(UserError, match=r"^1 of 1 tasks failed: a;"):
        launch(write, slurm / "sweep", ["a"], "--launcher=slurm")
    out = capsys.readouterr().out
    assert "squeue: controller is away; asking again\n" in out
    assert out.splitlines()[2:] == [
        "1 pending, 0 running, 0 done, 0 failed",
        "0 pending, 1 running, 0 done, 0 failed",
        "1 pending, 0 running, 0 done, 0 failed",
        "0 pending, 0 running, 0 done, 1 failed",
    ]


def test_sigterm_requeues_a_job_that_slurm_lets_run_on_and_ends_another(slurm, monkeypatch):
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: argparse.Namespace(cluster="slurm", job_id="71_0"))
    requeued = []
    old = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        for number in old:
            signal.signal(number, lambda received, _: requeued.append(received))  # what submitit's handlers are asked
        for state in ("RUNNING", "COMPLETING"):
            (slurm / "queue").write_text(f"71_0 {state}\n")
            with pytest.raises(SystemExit):
                slurm_module.Job(write)(str(slurm), "stopped")
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    assert requeued == [signal.SIGUSR2, signal.SIGTERM]


def test_workers_save_and_end_when_their_parent_is_killed(tmp_path):
    """Else they would hold the locks and cores that the same command needs to go on."""
    command = start(endless, tmp_path, ["a"], "--launcher=processes", "--workers=1")
    until((tmp_path / "a.begun").exists)
    command.kill()
    command.communicate(timeout=120)
    until(lambda: (tmp_path / "a.saved").exists() and (tmp_path / "a.saved").read_text().startswith("15"))
