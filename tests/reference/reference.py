#!/usr/bin/env python3
"""Writes reference.json: what Python, Pillow and ONNX Runtime answer for the test photos.

    python reference.py            writes reference.json beside this script
    python reference.py --check    exits 1 if a fresh run is off what is committed

Needs numpy, pillow and onnxruntime; nothing of Nuke takes part. The preprocessing is the one the
weights were trained with, as torchvision words it:

1. decode to RGB, 8 bits;
2. scale the shorter side to 256 (bilinear, antialiased), the longer to floor(256 * longer / shorter);
3. cut 224 x 224 out of the middle, left and top = round((size - 224) / 2), ties to even;
4. (pixel - 127) / 128, in the order channels, height, width.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import onnxruntime
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
PHOTOS = HERE.parent / "fixtures" / "photos"
MODEL = HERE.parent.parent / "models" / "image-classifier" / "1"
RESULT = HERE / "reference.json"

SHORTER = 256
CROP = 224
MEAN = 127.0
STD = 128.0
TOP = 5
RUNNERS_UP = 10
SAMPLED = (0, 74, 149, 223)

TOLERANCE = {
    "pixel": {"png": 1.0, "jpeg": 3.0},
    "channel_mean": 0.25,
    "log_probability": 0.35,
    "rank": 0.25,
    "meaning": [
        "pixel: most that a value of the tensor may be off, in levels of 0 to 255 (1/128 of the tensor's unit)",
        "channel_mean: most that a channel's mean may be off, in the same levels",
        "log_probability: most that ln(p / reference p) may be, either way, for each label of the answer's top 5",
        "rank: a label may stand at another rank than in the reference only beside labels whose reference"
        " probabilities are this near by ln; its reference probability is then under 'candidates'",
    ],
    "why": [
        "correct scalers round differently: fast_image_resize 6.1 is one level off Pillow in 8 to 20 % of these"
        " pixels, and image 0.25's JPEG decoder adds up to one more",
        "so moved, the probabilities of the top 5 differ by at most 0.18 in ln (rocket.jpg, 0.021 in absolute"
        " terms) and two near ties swap (astronaut.png, chelsea.png): log_probability is twice what was seen",
        "outside the tolerance, in at least one photo each: a mean of 128, channels the other way round, a crop one"
        " pixel aside, bicubic or nearest scaling, scaling straight to 224 x 224, one level of noise on every pixel",
    ],
}


def preprocess(picture):
    """The model's input for one decoded picture: FP32 [1, 3, 224, 224]."""
    width, height = picture.size
    shorter, longer = min(width, height), max(width, height)
    scaled = SHORTER * longer // shorter
    size = (SHORTER, scaled) if width <= height else (scaled, SHORTER)
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((edge - CROP) / 2) for edge in size)
    picture = picture.crop((left, top, left + CROP, top + CROP))
    tensor = (np.asarray(picture, np.float32) - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(tensor.transpose(2, 0, 1)[None])


def softmax(logits):
    """Probabilities, in double precision."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max())
    return exponentials / exponentials.sum()


def sample(tensor):
    """Values at a 4 x 4 grid of each channel, with where they stand."""
    return [
        {"channel": channel, "y": y, "x": x, "value": float(tensor[0, channel, y, x])}
        for channel in range(3)
        for y in SAMPLED
        for x in SAMPLED
    ]


def describe(path, session, labels):
    """Everything that is committed about one photo."""
    with Image.open(path) as opened:
        kind = opened.format.lower()
        picture = opened.convert("RGB")
    tensor = preprocess(picture)
    probabilities = softmax(session.run(["logits"], {"input": tensor})[0][0])
    ranked = [
        {"index": int(index), "label": labels[index], "probability": round(float(probabilities[index]), 6)}
        for index in np.argsort(-probabilities, kind="stable")[:RUNNERS_UP]
    ]
    return {
        "photo": path.name,
        "format": kind,
        "width": picture.width,
        "height": picture.height,
        "top5": ranked[:TOP],
        "candidates": ranked[TOP:],
        "tensor": {
            "shape": list(tensor.shape),
            "first": [float(value) for value in tensor.ravel()[:8]],
            "sample": sample(tensor),
            "channel_means": [round(float(value), 6) for value in tensor.mean(axis=(0, 2, 3), dtype=np.float64)],
        },
    }


def compute():
    """The whole content of reference.json."""
    session = onnxruntime.InferenceSession(str(MODEL / "model.onnx"), providers=["CPUExecutionProvider"])
    labels = (MODEL / "labels.txt").read_text().splitlines()
    photos = sorted(path for path in PHOTOS.iterdir() if path.suffix in {".png", ".jpg"})
    return {
        "made_by": "tests/reference/reference.py",
        "versions": {
            "numpy": np.__version__,
            "onnxruntime": onnxruntime.__version__,
            "pillow": PIL.__version__,
        },
        "tolerance": TOLERANCE,
        "photos": [describe(path, session, labels) for path in photos],
    }


def differences(fresh, committed):
    """What is off between two runs, one line each; versions may differ."""
    if [photo["photo"] for photo in fresh["photos"]] != [photo["photo"] for photo in committed["photos"]]:
        return ["the photos are not the ones that reference.json is about"]
    found = []
    for new, old in zip(fresh["photos"], committed["photos"]):
        if [entry["index"] for entry in new["top5"]] != [entry["index"] for entry in old["top5"]]:
            found.append(f"{new['photo']}: the top 5 are others")
        for one, other in zip(new["top5"], old["top5"]):
            if abs(one["probability"] - other["probability"]) > 1e-4:
                found.append(f"{new['photo']}: {one['label']} {one['probability']}, was {other['probability']}")
        if not np.allclose(new["tensor"]["first"], old["tensor"]["first"], atol=1e-6):
            found.append(f"{new['photo']}: the tensor starts otherwise")
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--check", action="store_true", help="compare with reference.json, write nothing")
    options = arguments.parse_args()
    fresh = compute()
    if not options.check:
        RESULT.write_text(json.dumps(fresh, indent=1) + "\n")
        return 0
    found = differences(fresh, json.loads(RESULT.read_text()))
    print("\n".join(found) or "reference.json is what a fresh run gives")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
