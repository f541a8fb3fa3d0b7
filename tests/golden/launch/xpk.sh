#!/bin/bash
# What stands in single quotes is for the pods to expand.
# shellcheck disable=SC2016
set -e

xpk workload create \
  --workload=moe-zloss-lr-00 \
  --cluster=tpus \
  --tpu-type=v5litepod-256 \
  --num-slices=1 \
  --docker-image=registry.example/retort:0.1 \
  --max-restarts=100 \
  --termination-grace-period-seconds=120 \
  '--command=unit=00-peak_value=0.001; result=/shared/runs/lr/units/00-peak_value=0.001/result.json; set -- --workdir=/shared/runs/lr/units/00-peak_value=0.001; if [ -e "$result" ]; then echo "$unit: finished"; exit 0; fi; child=; trap '"'"'[ -z "$child" ] || kill -TERM "$child"'"'"' TERM; runner "$@" --gin.distributed.detect=True & child=$!; wait "$child"; code=$?; while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done; if [ "$code" -eq 0 ] && [ ! -e "$result" ]; then exit 143; fi; exit "$code"'

xpk workload create \
  --workload=moe-zloss-lr-01 \
  --cluster=tpus \
  --tpu-type=v5litepod-256 \
  --num-slices=1 \
  --docker-image=registry.example/retort:0.1 \
  --max-restarts=100 \
  --termination-grace-period-seconds=120 \
  '--command=unit=01-peak_value=0.01; result=/shared/runs/lr/units/01-peak_value=0.01/result.json; set -- --workdir=/shared/runs/lr/units/01-peak_value=0.01; if [ -e "$result" ]; then echo "$unit: finished"; exit 0; fi; child=; trap '"'"'[ -z "$child" ] || kill -TERM "$child"'"'"' TERM; runner "$@" --gin.distributed.detect=True & child=$!; wait "$child"; code=$?; while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done; if [ "$code" -eq 0 ] && [ ! -e "$result" ]; then exit 143; fi; exit "$code"'
