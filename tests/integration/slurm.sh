#!/usr/bin/env bash
# Sweeps and multi-process training on a real Slurm, of one node, that is started here and stopped at the end; takes minutes.
#
#     apt-get install slurm-wlm munge && tests/integration/slurm.sh        # as root, in an environment with requirements.txt
#     STEPS=4000 tests/integration/slurm.sh                                # on a slow machine
#
# Ends with 0 and a line "ok" for every claim, with 1 at the first that does not hold, with 2 where it cannot run.
set -euo pipefail
cd "$(dirname "$0")/../.."

cannot() { echo "cannot run: $1" >&2; exit 2; }
[ "$(id -u)" = 0 ] || cannot "needs root, for munged and slurmd"
for program in munged slurmctld slurmd sbatch srun; do
    [ -n "$(PATH=$PATH:/usr/sbin type -P "$program")" ] || cannot "no $program; apt-get install slurm-wlm munge"
done
python -c "from importlib.util import find_spec as find; assert find('jax') and find('submitit')" 2>/dev/null || cannot "python lacks jax or submitit; pip install -r requirements.txt"

PATH=$PATH:/usr/sbin
here=$(mktemp -d)
chmod 755 "$here"
daemons=() # in sessions of their own, so that a terminal's Ctrl-C leaves them to `stop`
stop() {
    code=$?
    trap - EXIT
    [ ! -f "$here/slurm.conf" ] || scancel --me --signal=KILL 2>/dev/null || true
    for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
        kill "${daemons[i]}" 2>/dev/null || true
        wait "${daemons[i]}" 2>/dev/null || true
    done
    if [ "$code" = 0 ]; then rm -rf "$here"; else echo "logs: $here" >&2; fi
    exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ok() { echo "ok: $1"; }
fail() { echo "NOT SO: $1" >&2; exit 1; }
# until_so SECONDS WHAT COMMAND...: waits until the command succeeds
until_so() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what, within the time"
        sleep 0.5
    done
}

head -c 1024 /dev/urandom >"$here/munge.key"
chmod 600 "$here/munge.key"
setsid munged --foreground --force --key-file="$here/munge.key" --socket="$here/munge.socket" --pid-file="$here/munged.pid" \
    --log-file="$here/munged.log" --seed-file="$here/munge.seed" 2>"$here/munged.err" &
daemons+=($!)
# Three processors, whatever the machine has. Preempted jobs of `main` may run on for a minute. A requeued job waits for
# cred_expire before it starts again, of which the default is two minutes.
cat >"$here/slurm.conf" <<CONF
ClusterName=integration
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge.socket,cred_expire=5
SlurmctldPort=$((20000 + $$ % 10000))
SlurmdPort=$((30000 + $$ % 10000))
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=10
ReturnToService=2
NodeName=localhost NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=3 RealMemory=1000
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=ALL State=UP PriorityTier=2
CONF
export SLURM_CONF=$here/slurm.conf
mkdir "$here/state" "$here/spool"
until_so 10 "munged answers" munge --socket="$here/munge.socket" --no-input
setsid slurmctld -D -c >"$here/slurmctld.log" 2>&1 &
daemons+=($!)
setsid slurmd -D -N localhost >"$here/slurmd.log" 2>&1 &
daemons+=($!)
until_so 60 "the node is up" srun --ntasks=2 --time=1 true
ok "$(sinfo --version), one node"

STEPS=${STEPS:-20000}
QUARTER=$((STEPS / 4))
config=(--config.steps=$STEPS --config.decay_steps=$STEPS --config.eval_every=$QUARTER --config.checkpoint_every=$QUARTER
    --config.model.width=16 --config.batch_size=64 --config.eval.samples=200 --config.eval.feature_samples=200
    --config.eval.draws=1 --config.cache_dir="$here/cache")
# sweep NAME FLAGS...: three points, each a task and a job of its own
sweep() {
    local name=$1
    shift
    python -m experiments.sweep --config=configs/wgan_gp.py:ring8 --seeds=3 --members=1 --workdir="$here/$name" \
        --launcher=slurm --cpus=1 "$@" "${config[@]}" >>"$here/$name.log" 2>&1
}
# submitted NAME: waits for a sweep's jobs; then `tasks` and `jobs` are their ids
submitted() {
    local record=$here/$1/slurm/jobs.json
    until_so 600 "$1: jobs are submitted" test -f "$record"
    read -ra tasks < <(python -c "import json, sys; print(*json.load(open(sys.argv[1])))" "$record")
    read -ra jobs < <(python -c "import json, sys; print(*json.load(open(sys.argv[1])).values())" "$record")
}
# saved NAME I: waits for the first checkpoint of a sweep's I-th job
saved() { until_so 600 "$1: job $2 has a checkpoint" compgen -G "$here/$1/tasks/${tasks[$2]}/checkpoints/*/step_*"; }
# resumed NAME: no job of a sweep trained its first quarter, which was saved, a second time, and all came to their end
resumed() {
    for step in $QUARTER $STEPS; do
        [ "$(cat "$here/$1"/slurm/*_log.out | grep -c "^step $step/$STEPS,")" = 3 ] || fail "$1: every task came to step $step once"
    done
}
all_gone() { [ -z "$(squeue --me --noheader)" ]; }
equal() {
    python - "$here/calm/results.csv" "$here/$1/results.csv" <<'PY' || fail "$1/results.csv equals that of an undisturbed sweep"
import csv, sys
calm, other = ([{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(open(path))] for path in sys.argv[1:])
tests = [row for row in calm if row["split"] == "test"]
assert len(tests) == 6 and all(row["wasserstein_excess"] for row in tests), "not complete"
assert calm == other, [pair for pair in zip(calm, other) if pair[0] != pair[1]][:2]
PY
}

# A sweep
sweep calm || fail "a sweep of three jobs ends well"
equal calm
ok "a sweep of three jobs: results.csv is complete"
sweep calm || fail "the same command again ends well"
grep -q "3 tasks, of which 0 are to be trained" "$here/calm.log" || fail "nothing is trained again"
ok "the same command again trains nothing"

# Jobs that die
sweep killed &
running=$!
submitted killed
saved killed 0
scancel --signal=KILL "${jobs[0]}"
saved killed 1
scancel "${jobs[1]}"
code=0
wait $running || code=$?
[ $code = 2 ] || fail "a sweep of which two jobs died ends with 2, not $code"
grep -q "error: 2 of 3 tasks failed" "$here/killed.log" || fail "it names the two"
[ "$(grep -c "its job ended without a result; log: /" "$here/killed.log")" = 2 ] || fail "it names their logs"
ok "one job killed with SIGKILL, one cancelled: the third ends, the sweep names both and their logs"
until_so 120 "the queue is empty" all_gone
sweep killed || fail "the sweep goes on"
grep -q "3 tasks, of which 2 are to be trained" "$here/killed.log" || fail "only the two are trained"
resumed killed
equal killed
ok "the same command trains these two alone, from their checkpoints; results.csv equals that of the undisturbed sweep bit for bit"

# The command is interrupted and its jobs go on; they are requeued by an administrator, at a time limit, for another job
sweep left &
running=$!
submitted left
until_so 600 "the command waits" grep -q pending "$here/left.log"
kill -INT "$(pgrep --parent $running python)"
code=0
wait $running || code=$?
[ $code = 130 ] || fail "an interrupted command ends with 130, not $code"
[ "$(squeue --me --noheader --array | wc -l)" = 3 ] || fail "three jobs are in the queue"
ok "an interrupted command leaves its jobs in the queue"
sweep left &
running=$!
saved left 0
scontrol requeue "${jobs[0]}"
saved left 1
scancel --signal=USR2 "${jobs[1]}" # as at the time limit
saved left 2
srun --quiet --partition=urgent --ntasks=3 true
wait $running || fail "a sweep whose jobs are requeued ends well"
grep -q "^0 jobs submitted, 3 were in the queue" "$here/left.log" || fail "it waits for the three jobs"
resumed left
for i in 1 2; do grep -q "Requeued job" "$here/left/slurm/${jobs[i]}_0_log.out" || fail "job $i requeued itself"; done
equal left
ok "the same command waits for them, through scontrol requeue, a time limit's signal and a preemption with grace: equal bit for bit"

# Several processes, one training
run() {
    local name=$1
    shift
    "$@" --config=configs/wgan_gp.py:ring8 --workdir="$here/$name" --config.dtype=float64 --config.steps=20 --config.log_every=1 \
        --config.eval_every=10 --config.checkpoint_every=10 --config.sample_every=20 --config.batch_size=64 --config.model.width=32 \
        --config.eval.samples=200 --config.eval.feature_samples=200 --config.cache_dir="$here/cache" >"$here/$name.log" 2>&1
}
run one python -m experiments.run || fail "one process trains"
run two srun --ntasks=2 --cpus-per-task=1 python -m experiments.run --distributed || fail "two processes train"
python - "$here/one/metrics.jsonl" "$here/two/metrics.jsonl" <<'PY' || fail "two processes train as one"
import json, math, sys
one, two = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
assert [line["step"] for line in one] == [line["step"] for line in two] == list(range(1, 21))
for a, b in zip(one, two):
    for key in (a.keys() | b.keys()) - {"seconds"}:
        both = (a[key], b[key])  # None is a value that is not finite
        assert both == (None, None) or math.isclose(*both, rel_tol=1e-9, abs_tol=1e-12), (a["step"], key, both)
PY
ok "srun of two processes with --distributed: every metric of 20 updates equals one process's, in float64, to 1e-9"
