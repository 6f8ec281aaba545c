#!/bin/bash
# A run on a SLURM cluster that goes on by itself after preemption and at the end of its time. Copy
# it, fit it to your cluster, and submit it: sbatch slurm.sh --config re10k
# (It was checked with stand-ins for srun and scontrol, not on a cluster.)
#SBATCH --job-name=mvsplat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# SIGTERM to this script, three minutes before the time is up: room for a batch and a checkpoint.
#SBATCH --signal=B:TERM@180

# The tasks end with a checkpoint, and the job waits for its next turn. A cluster that preempts jobs by
# requeueing them does so by itself.
go_on_later() {
    trap '' TERM
    kill -TERM "$step"
    wait "$step"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap go_on_later TERM

# One task a GPU; when one fails, all end instead of waiting for it. Started again, the run goes on
# from its last checkpoint.
srun --kill-on-bad-exit=1 mvsplat fit "$@" --config overlays/multi_node \
    --trainer.num_nodes="$SLURM_JOB_NUM_NODES" --trainer.devices="$SLURM_NTASKS_PER_NODE" \
    --ckpt_path=auto &
step=$!
wait "$step"
