#!/bin/sh
cd /shared/retort || exit
export XLA_FLAGS='--a=1 --b='"'"'2'"'"''

# 00-peak_value=0.001
/opt/retort/bin/python -m runner.main \
  --workdir=/shared/runs/lr/units/00-peak_value=0.001 \
  --gin.distributed.coordinator=HOST:PORT \
  --gin.distributed.processes=2 \
  --gin.distributed.process=0 &
/opt/retort/bin/python -m runner.main \
  --workdir=/shared/runs/lr/units/00-peak_value=0.001 \
  --gin.distributed.coordinator=HOST:PORT \
  --gin.distributed.processes=2 \
  --gin.distributed.process=1
wait

# 01-peak_value=0.01
/opt/retort/bin/python -m runner.main \
  --workdir=/shared/runs/lr/units/01-peak_value=0.01 \
  --gin.distributed.coordinator=HOST:PORT \
  --gin.distributed.processes=2 \
  --gin.distributed.process=0 &
/opt/retort/bin/python -m runner.main \
  --workdir=/shared/runs/lr/units/01-peak_value=0.01 \
  --gin.distributed.coordinator=HOST:PORT \
  --gin.distributed.processes=2 \
  --gin.distributed.process=1
wait
