#!/bin/sh
# The figures of docs/results/distillation.md:  sh benchmarks/distillation/run.sh WORK
# Every command goes on where it was stopped; one that is finished does nothing.
set -eu
work=$1

student() {
    name=$1
    shift
    taketurns distill --team pocket --shared "$work/shared" --limit 100 --seeds 3 -o "$work/$name" "$@"
}

mkdir -p "$work"
work=$(cd "$work" && pwd)
student both
student both-seed1 --seed 1
student sft --loss sft
student kl --loss kl
student from-pretrained --student pretrained

# A second round: the student in the aligned checkpoint's place, and a switcher for the new team, learned as the
# bundled one was.
taketurns rollout --team "$work/both" --prefixes 2600 --k 4 --concurrency 128 --output "$work/second.jsonl"
taketurns train --team "$work/both" --labels "$work/second.jsonl" --switcher head --output "$work/second-labels"
taketurns train --method policy-gradient --team "$work/second-labels" --output "$work/second-team"
taketurns distill --team "$work/second-team" --limit 100 --seeds 3 -o "$work/second"

cd "$(dirname "$0")/../.." && python -m benchmarks.distillation.report "$work"
