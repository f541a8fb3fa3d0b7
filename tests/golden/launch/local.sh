#!/bin/sh
cd /shared/retort || exit

# 00-peak_value=0.001
/opt/retort/bin/python -m runner.main \
  --workdir=/shared/runs/lr/units/00-peak_value=0.001

# 01-peak_value=0.01
/opt/retort/bin/python -m runner.main \
  --workdir=/shared/runs/lr/units/01-peak_value=0.01
