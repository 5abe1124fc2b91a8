#!/usr/bin/env python3
"""Draws the pictures in this folder and writes what Pillow and NumPy make of them: `NAME.nchw` is the
float32 tensor of a shorter side of 40 (bilinear), its middle 32x32, (x - 127) / 128. Needs pillow 13 and
numpy. The pictures are drawn here, so they are free of rights."""

import pathlib

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).parent

y, x = np.mgrid[0:90, 0:121]
waves = 127 + 80 * np.sin(x / 9) * np.cos(y / 7)
spot = np.where((x - 70) ** 2 + (y - 40) ** 2 < 500, 220, 30)
picture = Image.fromarray(np.stack([waves, y * 255 // 89, spot], -1).astype(np.uint8))
picture.save(HERE / "drawing.png", optimize=True)
picture.save(HERE / "drawing.jpg", quality=92)
picture.save(HERE / "drawing.webp", quality=92)

for name in ("drawing.png", "drawing.jpg", "drawing.webp"):
    opened = Image.open(HERE / name).convert("RGB")
    width, height = opened.size
    scaled = opened.resize((int(40 * width / height), 40), Image.Resampling.BILINEAR)
    left, top = round((scaled.width - 32) / 2), round((scaled.height - 32) / 2)
    pixels = np.asarray(scaled.crop((left, top, left + 32, top + 32)), dtype=np.float32)
    tensor = (pixels - np.float32(127)) / np.float32(128)
    (HERE / f"{name}.nchw").write_bytes(tensor.transpose(2, 0, 1).tobytes())
