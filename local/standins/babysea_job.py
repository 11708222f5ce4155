"""One generation of the BabySea stand-in: its data, its record, its files."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from local.standins.babysea_behaviour import Behaviour, Script
from local.standins.babysea_catalog import Model
from local.standins.babysea_errors import iso
from local.standins.babysea_media import Picture

TERMINAL = frozenset({"succeeded", "failed", "canceled"})


@dataclass
class Job:
    """One generation. `cost` is its full price, `charged` what was billed in the end."""

    account_id: str
    model: Model
    body: dict[str, Any]
    script: Script
    key: str | None
    cost: Decimal
    generation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    prediction_id: str = field(default_factory=lambda: f"pred_{uuid.uuid4().hex[:20]}")
    status: str = "pending"
    accepted: bool = True
    credits: str = "reserved"
    charged: Decimal = Decimal(0)
    outputs: int = 0
    error: str = ""
    error_code: str = ""
    discarded: bool = False
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    started_at: datetime | None = None
    completed_at: datetime | None = None
    source: bytes | None = field(default=None, repr=False)
    last_frame: bytes | None = field(default=None, repr=False)
    downloads: Counter[int] = field(default_factory=Counter)
    files: dict[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def providers(self) -> list[str]:
        """The providers that are tried, in order."""
        order = self.body.get("generation_provider_order", "fastest")
        return list(self.model.providers) if order == "fastest" else order.split(", ")

    @property
    def file_format(self) -> str:
        """The extension of its output files."""
        wanted: str = self.body.get("generation_output_format", self.model.formats[0])
        return wanted

    def file(self, index: int) -> bytes:
        """Return output file `index`, painted on first use."""
        if index not in self.files:
            picture = Picture(
                self.body["generation_prompt"],
                self.body.get("generation_ratio", self.model.ratios[0]),
                self.body.get("generation_seed", 0),
                index,
                self.source,
            )
            if self.model.kind == "video":
                self.files[index] = picture.film(self.body["generation_duration"])
            else:
                self.files[index] = picture.image(self.file_format)
        return self.files[index]

    def file_fault(self, index: int) -> str:
        """Return the script's fault for output `index`, if it is meant for it."""
        return self.script.file if self.script.file_index in (None, index) else ""

    def age(self) -> float:
        """Return the seconds since it ended; 0 while it runs."""
        return (datetime.now(UTC) - self.completed_at).total_seconds() if self.completed_at else 0

    def record(self, behaviour: Behaviour, output_urls: list[str]) -> dict[str, Any]:
        """Return the record the content routes show."""
        removed = self.status == "succeeded" and self.age() >= behaviour.file_life
        done = self.status == "succeeded" and not removed
        record = {
            "account_id": self.account_id,
            "generation_id": self.generation_id,
            "model_identifier": self.model.identifier,
            "generation_provider_order": self.providers,
            "generation_provider_used": self.providers[0] if self.status == "succeeded" else None,
            "generation_prediction_id": self.prediction_id,
            "generation_status": self.status,
            "generation_ratio": self.model.ratios[0],
            "generation_output_format": self.model.formats[0],
            "generation_output_number": self.model.outputs,
            "generation_input_file": None,
            **{k: v for k, v in self.body.items() if k != "generation_provider_order"},
            "generation_output_file": output_urls if done else None,
            "generation_created_at": iso(self.created_at),
            "generation_started_at": iso(self.started_at) if self.started_at else None,
            "generation_completed_at": iso(self.completed_at) if self.completed_at else None,
            "generation_metrics_total_time": _metric(self.created_at, self.completed_at, behaviour),
            "generation_metrics_predict_time": _metric(
                self.started_at, self.completed_at, behaviour
            ),
        }
        if self.model.audio:
            sound = self.body.get("generation_generate_audio", False)
            record |= {
                "generation_generate_audio": sound,
                "generation_audio_mode": "audio" if sound else "noaudio",
            }
        if self.status == "failed":
            record |= {
                "generation_error": self.error,
                "generation_error_code": self.error_code,
            }
        if removed:
            record["generation_removed"] = True
        return record


def _metric(start: datetime | None, end: datetime | None, behaviour: Behaviour) -> float | None:
    if start is None or end is None:
        return None
    seconds = (end - start).total_seconds()
    return round(seconds * 1000) if behaviour.metrics_unit == "ms" else round(seconds, 3)
