"""
Playable MP4 files without an encoder: H.264 with raw macroblocks, in hand-made ISO boxes.

A browser plays H.264 but not JPEG frames in an MP4 file. H.264 has a lossless mode that needs no
transform and no entropy coder (I_PCM), and a way to say "as before" in a few bits (P_Skip). The
first frame is sent raw; of each later one only the part that moved. Checked with FFmpeg's decoder:
every decoded plane equals the plane that went in.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Sequence

from PIL import Image, ImageChops

_MACROBLOCK = 16
_BASELINE_LEVEL_3_1 = bytes((66, 0xC0, 31))
_IDR, _SLICE, _SPS, _PPS = 0x65, 0x61, 0x67, 0x68
_I_PCM_IN_I_SLICE, _I_PCM_IN_P_SLICE = 25, 30
# Full-range JPEG values become the limited range players expect. No sample is 0, so picture data
# never looks like a start code.
_LIMITED_RANGE = [round(16 + v * 219 / 255) for v in range(256)] + 2 * [
    round(16 + v * 224 / 255) for v in range(256)
]
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mp4(frames: Sequence[Image.Image], frames_per_second: int) -> bytes:
    """Return an MP4 file of equally sized RGB frames; both sides must be multiples of 16."""
    width, height = frames[0].size
    if width % _MACROBLOCK or height % _MACROBLOCK:
        raise ValueError(f"{width}x{height}: both sides must be multiples of {_MACROBLOCK}")
    units = [_first_frame(frames[0])]
    for number, (before, frame) in enumerate(itertools.pairwise(frames), start=1):
        units.append(_next_frame(number, before, frame))
    samples = [struct.pack(">I", len(unit)) + unit for unit in units]
    head = _box(b"ftyp", b"isom", struct.pack(">I", 0x200), b"isomiso2avc1mp41")
    moov = _movie(width, height, samples, frames_per_second, data_at=0)
    data_at = len(head) + len(moov) + 8
    moov = _movie(width, height, samples, frames_per_second, data_at)
    return head + moov + _box(b"mdat", *samples)


class _Bits:
    """A bit string that is written from the left, with H.264's Exp-Golomb numbers."""

    def __init__(self) -> None:
        self._done = bytearray()
        self._bits = ""

    def put(self, *numbers: int) -> None:
        """Append unsigned Exp-Golomb numbers (0 is also the signed 0)."""
        for number in numbers:
            code = f"{number + 1:b}"
            self.raw("0" * (len(code) - 1) + code)

    def raw(self, bits: str) -> None:
        self._bits += bits
        whole = len(self._bits) // 8 * 8
        self._done += bytes(int(self._bits[i : i + 8], 2) for i in range(0, whole, 8))
        self._bits = self._bits[whole:]

    def aligned(self, data: bytes) -> None:
        """Append whole bytes after zero bits up to the next byte."""
        self.raw("0" * (-len(self._bits) % 8))
        self._done += data

    def unit(self, header: int) -> bytes:
        """Close the string and return it as a NAL unit with its start codes escaped."""
        self.raw("1")
        self.aligned(b"")
        return bytes((header,)) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", bytes(self._done))


def _parameter_sets(width: int, height: int) -> tuple[bytes, bytes]:
    sps = _Bits()
    sps.aligned(_BASELINE_LEVEL_3_1)
    # id; 4-bit frame numbers; output in decoding order; one reference frame
    sps.put(0, 0, 2, 1)
    sps.raw("0")  # no gaps in frame numbers
    sps.put(width // _MACROBLOCK - 1, height // _MACROBLOCK - 1)
    sps.raw("1100")  # whole frames, 8x8 inference, no cropping, no usability information
    pps = _Bits()
    pps.put(0, 0)
    pps.raw("00")  # variable-length coding, no field order
    pps.put(0, 0, 0)
    pps.raw("000")  # no weighted prediction
    pps.put(0, 0, 0)
    pps.raw("100")  # slices may switch the deblocking filter off, and do
    return sps.unit(_SPS), pps.unit(_PPS)


def _first_frame(frame: Image.Image) -> bytes:
    bits = _Bits()
    bits.put(0, 7, 0)  # first macroblock, I slice, parameter set
    bits.raw("0000100")  # frame number, number of this picture, no reference marking
    bits.put(0, 1)  # quantiser unchanged, no deblocking
    columns, rows = (side // _MACROBLOCK for side in frame.size)
    planes = _planes(frame)
    for row in range(rows):
        for column in range(columns):
            bits.put(_I_PCM_IN_I_SLICE)
            bits.aligned(_macroblock(planes, frame.width, column, row))
    return bits.unit(_IDR)


def _next_frame(number: int, before: Image.Image, frame: Image.Image) -> bytes:
    bits = _Bits()
    bits.put(0, 5, 0)  # first macroblock, P slice, parameter set
    bits.raw(f"{number % 16:04b}000")  # frame number; default references, kept in order
    bits.put(0, 1)
    columns, rows = (side // _MACROBLOCK for side in frame.size)
    left, top, right, bottom = ImageChops.difference(before, frame).getbbox() or (0, 0, 0, 0)
    across = range(left // _MACROBLOCK, -(-right // _MACROBLOCK))
    planes = _planes(frame)
    skipped = 0
    for row in range(rows):
        for column in range(columns):
            if column not in across or not top // _MACROBLOCK <= row < -(-bottom // _MACROBLOCK):
                skipped += 1
                continue
            bits.put(skipped, _I_PCM_IN_P_SLICE)
            bits.aligned(_macroblock(planes, frame.width, column, row))
            skipped = 0
    if skipped:
        bits.put(skipped)
    return bits.unit(_SLICE)


def _planes(frame: Image.Image) -> tuple[bytes, bytes, bytes]:
    luma, blue, red = frame.convert("YCbCr").point(_LIMITED_RANGE).split()
    return luma.tobytes(), blue.reduce(2).tobytes(), red.reduce(2).tobytes()


def _macroblock(planes: tuple[bytes, bytes, bytes], width: int, column: int, row: int) -> bytes:
    parts = []
    for plane, side in zip(planes, (16, 8, 8), strict=True):
        stride = width * side // _MACROBLOCK
        start = row * side * stride + column * side
        parts += [plane[at : at + side] for at in range(start, start + side * stride, stride)]
    return b"".join(parts)


def _box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, parts))) + kind + b"".join(parts)


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def _table(kind: bytes, *rows: tuple[int, ...]) -> bytes:
    return _full(
        kind, struct.pack(">I", len(rows)), *(struct.pack(f">{len(row)}I", *row) for row in rows)
    )


def _movie(width: int, height: int, samples: Sequence[bytes], rate: int, data_at: int) -> bytes:
    count = len(samples)
    sps, pps = _parameter_sets(width, height)
    config = _box(
        b"avcC",
        b"\1" + _BASELINE_LEVEL_3_1 + b"\xff\xe1",
        struct.pack(">H", len(sps)) + sps,
        b"\1" + struct.pack(">H", len(pps)) + pps,
    )
    entry = _box(
        b"avc1",
        struct.pack(">6xH16x2H", 1, width, height),
        struct.pack(">3IH32xHh", 0x480000, 0x480000, 0, 1, 24, -1),
        config,
    )
    samples_table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _table(b"stts", (count, 1)),
        _table(b"stss", (1,)),
        _table(b"stsc", (1, count, 1)),
        _full(b"stsz", struct.pack(f">2I{count}I", 0, count, *map(len, samples))),
        _table(b"stco", (data_at,)),
    )
    source = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    information = _box(b"minf", _full(b"vmhd", bytes(8), flags=1), source, samples_table)
    # One unit of time is one frame, in the movie and in its only track.
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">4I2H", 0, 0, rate, count, 0x55C4, 0)),
        _full(b"hdlr", bytes(4) + b"vide" + bytes(12) + b"video\0"),
        information,
    )
    track = struct.pack(">5I16x", 0, 0, 1, 0, count) + _MATRIX
    track += struct.pack(">2I", width << 16, height << 16)
    movie = struct.pack(">4IIH10x", 0, 0, rate, count, 0x10000, 0x100) + _MATRIX
    movie += bytes(24) + struct.pack(">I", 2)
    return _box(
        b"moov", _full(b"mvhd", movie), _box(b"trak", _full(b"tkhd", track, flags=3), media)
    )
