#!/usr/bin/env python3
"""Writes the pictures in this folder, and beside each what Pillow makes of it (`.rgb`: the bytes of
`convert("RGB")`). Needs pillow 13 and numpy. The pictures are drawn here, so they are free of rights."""

import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

HERE = pathlib.Path(__file__).parent
WIDTH, HEIGHT = 24, 16
rng = np.random.default_rng(20)


def drawing():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = x * 255 // (WIDTH - 1)
    green = y * 255 // (HEIGHT - 1)
    blue = np.where((x - 12) ** 2 + (y - 8) ** 2 < 30, 230, 40)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(name, depth, color_type, samples, extra=b""):
    stride = (WIDTH * depth * samples + 7) // 8
    rows = b"".join(b"\0" + rng.bytes(stride) for _ in range(HEIGHT))
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (HERE / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)


for depth in (1, 2, 4, 8, 16):
    png(f"gray{depth}", depth, 0, 1)
for depth in (8, 16):
    png(f"rgb{depth}", depth, 2, 3)
    png(f"gray-alpha{depth}", depth, 4, 2)
    png(f"rgba{depth}", depth, 6, 4)
palette = chunk(b"PLTE", rng.bytes(48)) + chunk(b"tRNS", rng.bytes(8))
png("palette4", 4, 3, 1, palette)
png("rgb-key8", 8, 2, 3, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))

picture = drawing()
picture.save(HERE / "subsampled.jpg", quality=90)
picture.save(HERE / "progressive.jpg", quality=90, subsampling=0, progressive=True)
picture.convert("L").save(HERE / "gray.jpg", quality=90)
picture.convert("CMYK").save(HERE / "cmyk.jpg", quality=90)
picture.save(HERE / "lossy.webp", quality=90)
picture.save(HERE / "lossless.webp", lossless=True)
see_through = picture.copy()
see_through.putalpha(Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)))
see_through.save(HERE / "alpha.webp", lossless=True, exact=True)
see_through.save(HERE / "animated.webp", save_all=True, append_images=[see_through.rotate(180)])
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x112] = orientation
    name = HERE / f"orientation{orientation}.jpg"
    picture.save(name, quality=90, exif=exif)
    (name.with_suffix(".upright")).write_bytes(ImageOps.exif_transpose(Image.open(name)).convert("RGB").tobytes())

for path in sorted(HERE.iterdir()):
    if path.suffix in (".png", ".jpg", ".webp"):
        opened = Image.open(path)
        if opened.mode == "I;16":  # Pillow clips at 255; the contract says: scaled down.
            rgb = Image.fromarray((np.array(opened) >> 8).astype(np.uint8)).convert("RGB")
        else:
            rgb = opened.convert("RGB")
        path.with_suffix(path.suffix + ".rgb").write_bytes(rgb.tobytes())

# Sizes that take either pass alone, both in either order, and both directions.
resized = b""
noise = Image.open(HERE / "rgb8.png").convert("RGB")
for size in [(12, 8), (48, 32), (7, 16), (24, 5), (22, 4), (5, 15), (40, 6), (6, 30), (24, 16)]:
    for resample in (0, 2, 3, 1):
        resized += noise.resize(size, resample).tobytes()
(HERE / "resized.rgb").write_bytes(resized)
(HERE / "luma.gray").write_bytes(noise.convert("L").tobytes())
