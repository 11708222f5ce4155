"""Give a user a place to upload one picture to, straight into private storage."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from holdfast.assets import AssetStore
from holdfast.storage import StorageSigner
from holdfast.views import UploadView

UPLOAD_BYTES_MAX = 10_485_760
UPLOADS_PER_HOUR = 60


class PictureType(StrEnum):
    """What may be uploaded: what the provider takes as input."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"


class UploadRequest(BaseModel):
    """One picture that is about to be uploaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: PictureType
    size: Annotated[int, Field(gt=0, le=UPLOAD_BYTES_MAX, description="Bytes.")]


class UploadCreator:
    """Sign uploads; raises `RateLimitedError`, and `UnavailableError` when storage is away."""

    def __init__(self, assets: AssetStore, storage: StorageSigner) -> None:
        self._assets = assets
        self._storage = storage

    def create(self, user_id: UUID, request: UploadRequest) -> UploadView:
        """Return where to upload and the id by which `POST /generations` takes the picture."""
        asset = self._assets.create(user_id, request.type, request.size, per_hour=UPLOADS_PER_HOUR)
        signed = self._storage.create_signed_upload(asset.path)
        return UploadView(
            asset_id=asset.id, upload_url=signed.url, token=signed.token, path=asset.path
        )
