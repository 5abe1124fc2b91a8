#!/usr/bin/env python3
"""Makes models/image-classifier/2/model.onnx out of version 1: 8-bit integers in all but the first blocks.

    pip install numpy onnx onnxruntime pillow sympy
    python quantize_image_classifier.py [--out DIR] [--photos DIR]

Static quantisation by onnxruntime: weights per channel, activations by ranges that are measured on the
photos of tests/fixtures/photos and 15 random crops of each. The stem and the first two blocks stay in
floats: they are 0.5 % of the weights, and most of the error when they are not.

Prints how often both versions agree on the first label, on the calibration pictures and, with --photos,
on pictures of another folder and crops of them; and the CPU time of one run.

Without --out it compares with what is committed. onnxruntime computes a little differently on each
processor, which moves the measured ranges, so what is compared is the answers: the exit code says
whether the mean divergence of the probabilities is within TOLERANCE.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUNDLE = ROOT / "models" / "image-classifier"
PHOTOS = ROOT / "tests" / "fixtures" / "photos"
sys.path.insert(0, str(ROOT / "tests" / "reference"))

from reference import preprocess  # noqa: E402 (the one place that says how a photo becomes a tensor)

FLOAT_NODES = ("conv_stem", "blocks.0.", "blocks.1.")
PERCENTILE = 99.99
CROPS = 15
TOLERANCE = 0.005  # Kullback-Leibler divergence, mean over the calibration pictures


def pictures(folder):
    """Each photo of a folder, and random square crops of it, half of them mirrored: the models' inputs."""
    random = np.random.default_rng(0)
    tensors = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in {".png", ".jpg"}):
        with Image.open(path) as opened:
            photo = opened.convert("RGB")
        tensors.append(preprocess(photo))
        for _ in range(CROPS):
            width, height = photo.size
            side = min(width, height) * random.uniform(0.4, 1.0)
            left, top = random.uniform(0, width - side), random.uniform(0, height - side)
            crop = photo.crop((int(left), int(top), int(left + side), int(top + side)))
            if random.random() < 0.5:
                crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            tensors.append(preprocess(crop))
    return tensors


class Reader(CalibrationDataReader):
    """Hands the pictures to onnxruntime, one by one."""

    def __init__(self, tensors):
        self.tensors = iter(tensors)

    def get_next(self):
        tensor = next(self.tensors, None)
        return None if tensor is None else {"input": tensor}


def quantize(source, target, tensors):
    """Writes the quantised model."""
    names = [node.name for node in onnx.load(source).graph.node]
    quantize_static(
        source,
        target,
        Reader(tensors),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod.Percentile,
        nodes_to_exclude=[name for name in names if name.startswith(FLOAT_NODES)],
        extra_options={"CalibPercentile": PERCENTILE},
    )


def open_session(path):
    """A session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def log_probabilities(session, tensors):
    """One row for each picture."""
    logits = np.concatenate([session.run(["logits"], {"input": tensor})[0] for tensor in tensors]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def divergence(reference, other):
    """Mean Kullback-Leibler divergence."""
    return float((np.exp(reference) * (reference - other)).sum(axis=1).mean())


def compare(title, sessions, tensors):
    """Prints how far the second session is from the first."""
    reference, other = (log_probabilities(session, tensors) for session in sessions)
    first = reference.argmax(axis=1)
    agree = (first == other.argmax(axis=1)).mean()
    among = np.mean([label in row for label, row in zip(first, np.argsort(-other, axis=1)[:, :5])])
    whole = (first == other.argmax(axis=1))[:: CROPS + 1]
    print(
        f"{title}: {len(tensors)} pictures, same first label {agree:.1%} (whole photos {whole.sum()} of"
        f" {len(whole)}), among the first five {among:.1%}, divergence {divergence(reference, other):.4f}"
    )


def measure(sessions, tensor):
    """Prints each session's processor time for one picture, taken in turns."""
    times = [[] for _ in sessions]
    for _ in range(60):
        for session, taken in zip(sessions, times):
            started = time.thread_time()
            session.run(["logits"], {"input": tensor})
            taken.append(1000 * (time.thread_time() - started))
    for version, taken in enumerate(times, 1):
        print(f"version {version}: one picture takes {statistics.median(taken):.1f} ms of CPU time, at least {min(taken):.1f}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--out", type=pathlib.Path, help="write model.onnx into this folder")
    arguments.add_argument("--photos", type=pathlib.Path, help="compare both versions on this folder's pictures too")
    options = arguments.parse_args()
    tensors = pictures(PHOTOS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        quantize(BUNDLE / "1" / "model.onnx", folder / "model.onnx", tensors)
        fresh = open_session(folder / "model.onnx")
    sessions = [open_session(BUNDLE / "1" / "model.onnx"), fresh]
    compare("calibration", sessions, tensors)
    if options.photos:
        compare("other pictures", sessions, pictures(options.photos))
    measure(sessions, tensors[0])
    if options.out:
        return 0
    committed = log_probabilities(open_session(BUNDLE / "2" / "model.onnx"), tensors)
    apart = divergence(committed, log_probabilities(fresh, tensors))
    same = apart <= TOLERANCE
    print(f"divergence from what is committed {apart:.6f}: {'as committed' if same else 'DIFFERS'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
