#!/bin/bash
# A run on the GPUs of one machine that starts again, all processes together, when one of them dies,
# and goes on from the last checkpoint: torchrun.sh --config re10k. On several machines, start it on
# each with --nnodes=N --node-rank=K --rdzv-endpoint=HOST:29500 --rdzv-backend=c10d in place of
# --standalone, and with --trainer.num_nodes=N.
devices=${DEVICES:-$(nvidia-smi --list-gpus | wc -l)}
# Or torchrun (2.13, say) keeps one store for all attempts: processes that start again read addresses
# of those before, and wait for each other for ever.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
exec torchrun --standalone --nproc-per-node="$devices" --max-restarts="${RESTARTS:-100}" \
    -m mvsplat fit "$@" --trainer.strategy=ddp --trainer.devices="$devices" --ckpt_path=auto
