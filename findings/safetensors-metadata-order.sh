#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata are not the same file. The header is written with the metadata
# in the order of a hash map that is seeded anew for each call, so from two keys on, saves within one process differ in
# their bytes though every reader sees the same. A checksum of the file (a cache key, a manifest, a hub's blob) then says that
# weights changed that did not. With one key, as the usual {"format": "pt"}, the bytes are always equal; so several facts are
# better kept as one JSON text under one key. Tensors themselves are in a fixed order. Seen on 2026-12-01.
set -euo pipefail
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
python3 -m venv "$here/venv"
"$here/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$here/venv/bin/python" - <<'PYTHON'
import hashlib

import numpy
import safetensors
from safetensors.numpy import load, save

TENSORS = {"weight": numpy.arange(4, dtype=numpy.float32), "bias": numpy.zeros(2, numpy.float32)}
SAVES = 50


def files(metadata):
    return {save(TENSORS, metadata=metadata) for _ in range(SAVES)}


one = files({"format": "pt"})
several = files({"format": "pt", "base": "model", "rank": "8", "epoch": "3"})
print(f"safetensors {safetensors.__version__}: {SAVES} saves with one key give {len(one)} file, "
      f"with four keys {len(several)}")
for text in sorted(several)[:2]:
    print(hashlib.sha256(text).hexdigest()[:16], text[8:90])
assert all((load(text)["weight"] == TENSORS["weight"]).all() for text in several)
assert len(one) == 1, "one key is not written in one way any more"
assert len(several) > 1, "several keys are written in one order now"
PYTHON
