from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image, ImageStat

from local.standins.babysea import BabySea
from local.standins.babysea_files import PRIVATE_PATH, TOO_BIG_BYTES
from local.standins.babysea_media import FRAMES_PER_SECOND
from local.standins.babysea_video import _Bits, mp4
from local.standins.server import Response, StandIn
from tests.contract.babysea_support import FLUX, SEEDANCE, SEEDREAM, Api

pytest_plugins = ["tests.contract.babysea_fixtures"]

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl"}


def _urls(babysea: BabySea, api: Api, model: str = FLUX, **body: Any) -> list[str]:
    generation_id = api.create(model, **body)
    babysea.wait_idle()
    urls: list[str] = api.record(generation_id)["generation_output_file"]
    return urls


def _opened(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each box of an ISO media file, containers before what they contain."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert 8 <= size <= len(data) - at
        yield kind, data[at + 8 : at + size]
        if kind in _CONTAINERS:
            yield from _boxes(data[at + 8 : at + size])
        at += size


class TestImages:
    """Real pictures that tell prompts apart."""

    @pytest.mark.parametrize(
        ("extension", "name", "mime"),
        [
            ("png", "PNG", "image/png"),
            ("jpg", "JPEG", "image/jpeg"),
            ("webp", "WEBP", "image/webp"),
        ],
    )
    def test_formats(
        self, babysea: BabySea, api: Api, extension: str, name: str, mime: str
    ) -> None:
        """The file is of the format that was asked for, and public."""
        [url] = _urls(babysea, api, output_format=extension, ratio="16:9")
        answer = httpx.get(url, trust_env=False)

        assert answer.headers["content-type"] == mime
        image = _opened(answer.content)
        assert (image.format, image.size) == (name, (512, 288))

    def test_bytes_tell_prompts_apart(self, babysea: BabySea, api: Api) -> None:
        """Equal prompts give equal bytes; other prompts, seeds and indexes give others."""
        four = _urls(babysea, api, SEEDREAM, prompt="a lamp")
        [again] = _urls(babysea, api, prompt="a lamp")
        [other] = _urls(babysea, api, prompt="two lamps")
        [seeded] = _urls(babysea, api, "bfl/flux-2-pro", prompt="a lamp", seed=7)
        files = [api.http.get(url).content for url in (*four, again, other, seeded)]

        assert files[0] == files[4]
        assert len(set(files)) == 6

    def test_input_image_is_used(self, babysea: BabySea, api: Api) -> None:
        """The input image shows in the output: a red one makes it redder."""
        file = io.BytesIO()
        Image.new("RGB", (64, 64), (255, 0, 0)).save(file, "PNG")
        with StandIn() as source:
            source.route("GET", "/red.png", lambda _: Response(200, file.getvalue()))
            reds = []
            for extra in ({}, {"input_file": [f"{source.url}/red.png"]}):
                [url] = _urls(babysea, api, "bfl/flux-1.1-pro", **extra)
                mean = ImageStat.Stat(_opened(api.http.get(url).content)).mean
                reds.append(mean[0] - (mean[1] + mean[2]) / 2)

        assert reds[1] > reds[0] + 40

    @pytest.mark.parametrize("path", ["gone.png", "text"])
    def test_bad_input(self, babysea: BabySea, api: Api, path: str) -> None:
        """An input that is missing or no picture fails the generation."""
        with StandIn() as source:
            source.route("GET", "/text", lambda _: Response(200, b"no picture"))
            generation_id = api.create("bfl/flux-1.1-pro", input_file=[f"{source.url}/{path}"])
            babysea.wait_idle()

        assert api.record(generation_id)["generation_error_code"] == "BSE2009"
        assert babysea.billed == 0


class TestFilms:
    """Real MP4 files. That they decode was checked with FFmpeg; here their structure is."""

    def test_structure(self, babysea: BabySea, api: Api) -> None:
        """The file starts with ftyp, is H.264 of the asked length, and its samples tile mdat."""
        [url] = _urls(babysea, api, SEEDANCE, duration=5, ratio="16:9")
        answer = api.http.get(url)
        assert answer.headers["content-type"] == "video/mp4"
        film = answer.content
        boxes = dict(_boxes(film))

        assert [kind for kind in boxes if kind in (b"ftyp", b"moov", b"mdat")] == [
            b"ftyp",
            b"moov",
            b"mdat",
        ]
        assert film[4:12] == b"ftypisom"
        rate, count = struct.unpack_from(">2I", boxes[b"mvhd"], 12)
        assert (rate, count / rate) == (FRAMES_PER_SECOND, 5)
        assert boxes[b"stsd"][12:16] == b"avc1"
        assert b"avcC" in boxes[b"stsd"]
        (start,) = struct.unpack_from(">I", boxes[b"stco"], 8)
        sizes = struct.unpack_from(f">{count}I", boxes[b"stsz"], 12)
        assert film[start - 4 : start] == b"mdat"
        assert sum(sizes) == len(boxes[b"mdat"])
        for size in sizes:  # each sample is one length-prefixed NAL unit
            (length,) = struct.unpack_from(">I", film, start)
            assert length == size - 4
            assert film[start + 4] in (0x65, 0x61)
            start += size

    def test_bytes_tell_prompts_apart(self, babysea: BabySea, api: Api) -> None:
        """Equal prompts give equal films, other prompts others."""
        films = [
            api.http.get(_urls(babysea, api, SEEDANCE, prompt=prompt, duration=5)[0]).content
            for prompt in ("a lamp", "a lamp", "two lamps")
        ]

        assert films[0] == films[1] != films[2]

    def test_raw_macroblocks(self) -> None:
        """The first frame holds its samples as they are; an unchanged frame takes a few bytes."""
        grey = Image.new("RGB", (32, 16), (128, 128, 128))
        film = mp4([grey, grey], 2)
        boxes = dict(_boxes(film))
        first, second = struct.unpack_from(">2I", boxes[b"stsz"], 12)

        assert boxes[b"mdat"].count(bytes([126]) * 256 + bytes([128]) * 128) == 2
        assert first > 2 * 384
        assert second < 20

    def test_start_codes_are_escaped(self) -> None:
        """Bytes that look like a start code get an escape byte."""
        bits = _Bits()
        bits.aligned(b"\0\0\1\0\0\0\4")

        assert bits.unit(0x65) == b"\x65\0\0\3\1\0\0\3\0\4\x80"

    def test_odd_size(self) -> None:
        """Sides that are no multiples of 16 are refused."""
        with pytest.raises(ValueError, match="17x16"):
            mp4([Image.new("RGB", (17, 16))], 1)


class TestFaults:
    """Each thing that can be wrong with a file."""

    def test_missing(self, babysea: BabySea, api: Api) -> None:
        """One output can be missing while its neighbours are there."""
        babysea.plan(file="missing", file_index=2)
        answers = [api.http.get(url) for url in _urls(babysea, api, SEEDREAM)]

        assert [answer.status_code for answer in answers] == [200, 200, 404, 200]

    def test_for_a_while(self, babysea: BabySea, api: Api) -> None:
        """A fault can end after some downloads."""
        babysea.plan(file="missing", file_times=1)
        [url] = _urls(babysea, api)

        assert [api.http.get(url).status_code for _ in range(2)] == [404, 200]

    def test_foreign_host(self, babysea: BabySea, api: Api) -> None:
        """The address has another origin and works nevertheless."""
        babysea.plan(file="foreign_host")
        [url] = _urls(babysea, api)

        assert not url.startswith(babysea.url)
        assert api.http.get(url).is_success

    def test_redirect_private(self, babysea: BabySea, api: Api) -> None:
        """The file redirects to another origin; whoever follows shows in the request log."""
        babysea.plan(file="redirect_private")
        [url] = _urls(babysea, api)
        answer = api.http.get(url)
        assert answer.status_code == 302
        assert not any(request.path == PRIVATE_PATH for request in babysea.requests)

        api.http.get(answer.headers["location"])
        assert babysea.requests[-1].path == PRIVATE_PATH

    def test_too_big(self, babysea: BabySea, api: Api) -> None:
        """The file is one byte beyond 50 MiB."""
        babysea.plan(file="too_big")
        [url] = _urls(babysea, api)

        assert len(api.http.get(url).content) == TOO_BIG_BYTES == 52_428_801

    def test_wrong_type(self, babysea: BabySea, api: Api) -> None:
        """The file says it is a PNG and is a web page."""
        babysea.plan(file="wrong_type")
        answer = api.http.get(_urls(babysea, api)[0])

        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"<!doctype html>")

    def test_cut(self, babysea: BabySea, api: Api) -> None:
        """The connection closes in the middle of the file."""
        babysea.plan(file="cut")
        [url] = _urls(babysea, api)

        with pytest.raises(httpx.RemoteProtocolError):
            api.http.get(url)

    def test_slow(self, babysea: BabySea, api: Api) -> None:
        """The file takes its time."""
        babysea.plan(file="slow")
        [url] = _urls(babysea, api)

        with pytest.raises(httpx.ReadTimeout):
            api.http.get(url, timeout=0.1)

    def test_expired(self, babysea: BabySea, api: Api) -> None:
        """After its life a file is gone and the record says so."""
        generation_id = api.create()
        babysea.wait_idle()
        [url] = api.record(generation_id)["generation_output_file"]
        babysea.behaviour.file_life = 0

        assert api.http.get(url).status_code == 404
        record = api.record(generation_id)
        assert record["generation_removed"] is True
        assert record["generation_output_file"] is None
