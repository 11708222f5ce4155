"""The public output files of the BabySea stand-in, and what can be wrong with them."""

from __future__ import annotations

import time

from local.standins.babysea_behaviour import Behaviour
from local.standins.babysea_job import Job
from local.standins.babysea_media import FORMATS
from local.standins.server import Response

TOO_BIG_BYTES = 50 * 1024 * 1024 + 1
PRIVATE_PATH = "/private/metadata"
_NOT_FOUND = b'{"error":"not found"}'
_PAGE = b"<!doctype html><script>document.title='an output that is no picture'</script>"


def missing() -> Response:
    """Return the answer for a file that is not, or no longer, there."""
    return Response(404, _NOT_FOUND, {"content-type": "application/json"})


def private() -> Response:
    """Return what lies behind the fault `redirect_private`; nobody may ever fetch it."""
    return Response(200, b"private: no copier may follow a redirect to here")


def output(job: Job, index: int, behaviour: Behaviour, foreign_url: str) -> Response:
    """Return output file `index`, or what the script's file fault makes of it."""
    if index >= job.outputs or job.age() >= behaviour.file_life:
        return missing()
    job.downloads[index] += 1
    fault = job.file_fault(index)
    if job.script.file_times is not None and job.downloads[index] > job.script.file_times:
        fault = ""
    if fault == "missing":
        return missing()
    if fault == "redirect_private":
        return Response(302, headers={"location": f"{foreign_url}{PRIVATE_PATH}"})
    headers = {"content-type": FORMATS[job.file_format][1]}
    if fault == "wrong_type":
        return Response(200, _PAGE, headers)
    if fault == "slow":
        time.sleep(behaviour.file_slow)
    body = job.file(index)
    if fault == "too_big":
        body = body.ljust(TOO_BIG_BYTES, b"\0")
    if fault == "cut":
        headers |= {"content-length": str(len(body)), "connection": "close"}
        body = body[: len(body) // 2]
    return Response(200, body, headers)
