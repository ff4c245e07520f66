#!/bin/bash
# one: SIGTERM saves and ends it; the same command goes on.
exec /venv/scripts/clipin train clip:data=gs://bucket/coco total_steps=20_000 --workdir '/shared/runs/first run'
