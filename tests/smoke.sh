#!/usr/bin/env bash
# The plan's commands at reduced counts, in a temporary folder, and then a check of every manifest they wrote.
set -euo pipefail
bin=${1:?the folder that holds python and leadlag}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
unset LEADLAG_RESULTS  # the plan's paths are relative to where the commands run
export OMP_NUM_THREADS=1
step() { printf '$ %s\n' "$*" >&2; "$@"; }
PATH="$bin:$PATH"

step python -m leadlag.meta_rl.run_meta_rl --output-root meta_rl --samples 60 --seed 123
step python -m leadlag.offline_rl.log_trajectories --episodes 3 --output results/offline/offline_dataset.h5
step leadlag train ppo --steps 4096 --seed 0 --output results/online
step python -m leadlag.offline_rl.train_offline --dataset results/offline/offline_dataset.h5 --online-summary results/online/summary.csv

for made in meta_rl/{train_regimes.csv,test_regimes.csv,meta_agent.json,meta_analysis.csv} results/meta_analysis.csv \
  results/offline/{offline_dataset.h5,data_manifest.json,offline_metadata.json,offline_results.json,offline_results.csv,offline_vs_online.csv}; do
  test -s "$made" || { echo "smoke: $made is missing or empty" >&2; exit 1; }
done
for folder in meta_rl results/offline results/online; do step leadlag verify "$folder"; done
step leadlag offline set --name wrong-rules --episodes 45 --output logs/wrong.h5
step leadlag offline train --dataset logs/wrong.h5 --algorithm iql --updates 100 --eval-paths 8
step leadlag offline consolidate --dataset logs/wrong.h5 --output plain/wrong.h5
MINARI_DATASETS_PATH="$work/minari" step leadlag offline to-minari leadlag/wrong-v0 --dataset logs/wrong.h5
for made in logs/{policy.npz,offline_estimates.csv,offline_curve.csv,dataset_card.md} plain/wrong.h5; do test -s "$made" || { echo "smoke: $made is missing or empty" >&2; exit 1; }; done
for made in logs plain/wrong.h5; do step leadlag verify "$made"; done
printf 'x' >>meta_rl/meta_analysis.csv
if leadlag verify meta_rl 2>/dev/null; then echo "smoke: verify did not notice an edited file" >&2; exit 1; fi
step leadlag meta benchmark --budget smoke --output results/meta_benchmark >/dev/null
for made in rows.csv aggregate.csv targets.csv improvements.csv runs.csv fixed.png; do test -s "results/meta_benchmark/$made" || { echo "smoke: $made of the benchmark is missing or empty" >&2; exit 1; }; done
step leadlag offline benchmark --budget smoke --output results/offline_benchmark >/dev/null
for made in rows.csv aggregate.csv targets.csv pairs.csv runs.csv raw.png estimates.png; do test -s "results/offline_benchmark/$made" || { echo "smoke: $made of the offline benchmark is missing or empty" >&2; exit 1; }; done
for made in meta offline; do step leadlag verify "results/${made}_benchmark"; done
echo "smoke: all artefacts are there and their manifests hold"
