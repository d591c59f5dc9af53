#!/usr/bin/env bash
# A search over several Slurm nodes: Ray is started on all of them, the search runs on the first, and
# Ray ends with it. Home or scratch folders are shared between nodes, so data and results need no more.
#
#   sbatch search/deploy/slurm.sh cifar10 --name first --num-samples 256 --gpus-per-trial auto
#   sbatch search/deploy/slurm.sh cifar10 --name first --resume       # after the time limit
#
#SBATCH --job-name=resnet-tune
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --gpus-per-node=4
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

# A token of this job, in a file that its user alone can read and all nodes see; it goes with the job.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="${SLURM_SUBMIT_DIR:-$PWD}/.ray-token-$SLURM_JOB_ID"
(umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs of one user may share a node's network

# `exec` of srun in the background and `wait`, so that Slurm's TERM reaches the search, which then
# writes its tables; a new job with --resume goes on.
srun --kill-on-bad-exit=1 ray symmetric-run --address "$head:$port" \
    --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    resnet-tune search "$@" --address "$head:$port" &
search=$!
trap 'kill -TERM "$search"' TERM
wait "$search" || wait "$search"
