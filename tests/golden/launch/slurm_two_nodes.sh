#!/bin/bash
#SBATCH --job-name=moe-zloss-lr
#SBATCH --array=0-1%4
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --time=8:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
#SBATCH --output=/shared/runs/lr/slurm-%A_%a.txt
#SBATCH --chdir=/shared/retort
#SBATCH --constraint=h100
set -u
export XLA_FLAGS='--a=1 --b='"'"'2'"'"''
case "$SLURM_ARRAY_TASK_ID" in
  0)
    unit=00-peak_value=0.001
    result=/shared/runs/lr/units/00-peak_value=0.001/result.json
    set -- --workdir=/shared/runs/lr/units/00-peak_value=0.001
    ;;
  1)
    unit=01-peak_value=0.01
    result=/shared/runs/lr/units/01-peak_value=0.01/result.json
    set -- --workdir=/shared/runs/lr/units/01-peak_value=0.01
    ;;
  *) echo "no unit $SLURM_ARRAY_TASK_ID: there are 2" >&2; exit 2 ;;
esac

if [ -e "$result" ]; then
  echo "$unit: finished"
  exit 0
fi

task="${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
limit=
trap 'limit=reached; scancel --signal=TERM "$task.0"' USR1
trap : TERM

srun --kill-on-bad-exit=1 /opt/retort/bin/python -m runner.main "$@" --gin.distributed.detect=True &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2>/dev/null; do
  wait "$step"
  code=$?
done

if [ -e "$result" ]; then
  exit 0
fi
if [ -n "$limit" ] && [ "$code" -ne 2 ]; then
  echo "$unit: out of time; back into the queue"
  exec scontrol requeue "$task"
fi
if [ "$code" -eq 0 ]; then
  echo "$unit: stopped; waiting for Slurm"
  sleep 600
  exit 143
fi
exit "$code"
