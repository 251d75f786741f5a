#!/usr/bin/env bash
# Decision processes on eight nodes of eight GPUs: Ray's head on the first node, an engine on every GPU.
#
#   sbatch examples/slurm.sh recipe.yaml /shared/runs/build
#
# In the recipe, the models that run on the cluster have `engine: {runner: ray}`. A job that ends early, because of its
# time or a lost node, is queued again and goes on where it stopped.
#SBATCH --job-name=usermirrorer
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=usermirrorer-%j.log
set -euo pipefail

recipe=$1
work=$2
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
address=$head:6379

srun --nodes=1 --ntasks=1 --nodelist="$head" ray start --head --node-ip-address="$head" --port=6379 --block &
until ray status --address="$address" > /dev/null 2>&1; do sleep 2; done
if [ "$SLURM_NNODES" -gt 1 ]; then
    srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \
        ray start --address="$address" --block &
fi

# This script runs on the first node, whose cluster `address: auto` in the recipe's engine settings finds. Engines
# start on the other nodes as these join.
usermirrorer build --config "$recipe" --work "$work"
