"""
The static page on this machine, as a static host serves it: files as they are, and security headers.

Its one settings file is made here: what a deployment writes into `frontend/config.js` by hand, the local cloud knows.
"""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

FOLDER = Path(__file__).parent.parent / "frontend"


class Frontend:
    """Serve the folder `frontend/`; use as a context manager, and `configure` when the API is up."""

    def __init__(self, port: int = 0) -> None:
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", port), partial(_Handler, frontend=self, directory=str(FOLDER))
        )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        self.config = ""
        self.policy = "default-src 'none'"

    @property
    def url(self) -> str:
        """The origin of the page."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def configure(self, api_url: str, supabase_url: str, publishable_key: str) -> None:
        """Tell the page where the API and Supabase are, and allow it to talk to them only."""
        settings = {
            "apiUrl": api_url,
            "supabaseUrl": supabase_url,
            "supabasePublishableKey": publishable_key,
            "google": True,
        }
        self.config = f"export default {json.dumps(settings, indent=2)};\n"
        self.policy = (
            "default-src 'none'; script-src 'self'; style-src 'self';"
            f" img-src 'self' blob: {supabase_url}; media-src {supabase_url};"
            f" connect-src 'self' {api_url} {supabase_url};"
            " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def __init__(self, *args: Any, frontend: Frontend, **kwargs: Any) -> None:
        self._frontend = frontend
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/config.js":
            super().do_GET()
            return
        body = self._frontend.config.encode()
        self.send_response(200)
        self.send_header("content-type", "text/javascript")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def end_headers(self) -> None:
        self.send_header("content-security-policy", self._frontend.policy)
        self.send_header("x-content-type-options", "nosniff")
        self.send_header("referrer-policy", "no-referrer")
        self.send_header("cache-control", "no-store")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the terminal for the functions."""
