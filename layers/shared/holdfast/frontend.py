"""The frontend's pages: where Stripe sends users back to."""

from __future__ import annotations

import re

from holdfast.errors import FieldError, InvalidRequestError

# One leading slash, then nothing that a browser could read as another host, another scheme or a fragment.
_PATH = re.compile(r"/(?![/\\])[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{0,500}", re.ASCII)


class Frontend:
    """The frontend at `origin`, and no other place."""

    def __init__(self, origin: str) -> None:
        self._origin = origin

    def url(self, field: str, path: str) -> str:
        """Return the page at `path`; raises `InvalidRequestError` naming `field` when it is no path."""
        if not _PATH.fullmatch(path):
            raise InvalidRequestError(
                "Only a path of the frontend can be returned to.",
                fields=[
                    FieldError(field, "not_a_path", "Give a path, for example /account?tab=1.")
                ],
            )
        return f"{self._origin}{path}"

    def checkout_urls(self, success_path: str, cancel_path: str) -> tuple[str, str]:
        """Return where a payment page leads, paid or not; the first is told the session's id."""
        success_url = self.url("success_path", success_path)
        joint = "&" if "?" in success_url else "?"
        return (
            f"{success_url}{joint}session_id={{CHECKOUT_SESSION_ID}}",
            self.url("cancel_path", cancel_path),
        )
