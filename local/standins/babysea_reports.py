"""The BabySea stand-in's read-only reports: account, usage, providers and health."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

from local.standins.babysea_account import Account
from local.standins.babysea_catalog import Model
from local.standins.babysea_errors import iso
from local.standins.babysea_job import Job


def key(account: Account, api_key: str) -> dict[str, Any]:
    """Return what is shown of the API key."""
    return {
        "account_id": account.account_id,
        "apikey_id": "00000000-0000-4000-8000-000000000001",
        "apikey_name": "local",
        "apikey_prefix": api_key[:9],
        "apikey_created_at": iso(account.created_at),
        "apikey_last_used_at": None,
        "apikey_expires_at": None,
    }


def billing(account: Account) -> dict[str, Any]:
    """Return the plan and the balance."""
    return {
        "account_id": account.account_id,
        "billing_credit_balance": float(account.balance),
        "billing_plan": "pro",
        "billing_subscription_status": "active",
        "billing_cancel_at_period_end": False,
        "billing_currency": "usd",
        "billing_period_starts_at": None,
        "billing_period_ends_at": None,
        "billing_created_at": iso(account.created_at),
        "billing_updated_at": None,
    }


def person(account: Account) -> dict[str, Any]:
    """Return who owns the account."""
    return {
        "account_id": account.account_id,
        "account_name": "Local stand-in",
        "account_email": None,
        "account_is_personal": False,
        "account_picture_url": None,
        "account_created_at": iso(account.created_at),
    }


def usage(
    account: Account, days: int, jobs: Sequence[Job], statuses: Sequence[int]
) -> dict[str, Any]:
    """Return the totals over all generations and over the statuses of all answers."""
    taken = [job for job in jobs if job.accepted]
    return {
        "account_id": account.account_id,
        "usage_period_days": days,
        "usage_credit_balance": float(account.balance),
        "usage_total_requests": len(statuses),
        "usage_total_success": sum(status < 400 for status in statuses),
        "usage_total_client_errors": sum(400 <= status < 500 for status in statuses),
        "usage_total_server_errors": sum(status >= 500 for status in statuses),
        "usage_total_generations": len(taken),
        "usage_total_provider_submissions": len(taken),
        "usage_total_estimated_cost": float(account.billed),
        "usage_endpoints": [],
        "usage_providers": [_provider_usage(name, taken) for name in _providers_of(taken)],
    }


def models(catalogue: Collection[Model]) -> dict[str, Any]:
    """Return the catalogue."""
    rows = [model.row() for model in catalogue]
    return {"models": rows, "models_total": len(rows)}


def providers(catalogue: Collection[Model]) -> dict[str, Any]:
    """Return the provider profiles."""
    rows = [_profile(name, catalogue) for name in _names(catalogue)]
    return {"providers": rows, "providers_total": len(rows)}


def provider_health(catalogue: Collection[Model]) -> dict[str, Any]:
    """Return the health of every provider: all are well."""
    rows = [
        {
            "provider": name,
            "status": "healthy",
            "failure_rate": 0,
            "window": {
                "total_attempts": 0,
                "failures": 0,
                "successes": 0,
                "duration_seconds": 300,
            },
        }
        for name in _names(catalogue)
    ]
    return {
        "service": "providers",
        "healthy": True,
        "providers": rows,
        "providers_total": len(rows),
    }


def model_health(catalogue: Collection[Model]) -> dict[str, Any]:
    """Return the health of every model: all are available everywhere."""
    rows = []
    for model in catalogue:
        row: dict[str, Any] = {
            "model_identifier": model.identifier,
            "model_type": model.kind,
            "providers": {name: {"available": True} for name in model.providers},
        }
        if isinstance(model.pricing, Decimal):
            row["model_pricing"] = float(model.pricing)
        rows.append(row)
    return {"service": "models", "healthy": True, "models": rows, "models_total": len(rows)}


STORAGE_HEALTH = {"service": "storage", "healthy": True, "latency_ms": 1, "bucket": "output"}
CACHE_HEALTH = {"service": "redis", "healthy": True, "latency_ms": 1}


def _names(catalogue: Collection[Model]) -> list[str]:
    return list(dict.fromkeys(name for model in catalogue for name in model.providers))


def _providers_of(jobs: Iterable[Job]) -> list[str]:
    return list(dict.fromkeys(job.providers[0] for job in jobs))


def _provider_usage(name: str, jobs: Iterable[Job]) -> dict[str, Any]:
    mine = [job for job in jobs if job.providers[0] == name]
    return {
        "provider": name,
        "total_submissions": len(mine),
        "used_count": sum(job.status == "succeeded" for job in mine),
        "cancelled_count": sum(job.status == "canceled" for job in mine),
        "discarded_count": sum(job.discarded for job in mine),
        "failed_count": sum(job.status == "failed" for job in mine),
        "total_estimated_cost": float(sum(job.charged for job in mine)),
        "wasted_estimated_cost": float(sum(job.cost for job in mine if job.discarded)),
    }


def _profile(name: str, catalogue: Collection[Model]) -> dict[str, Any]:
    mine = [model for model in catalogue if name in model.providers]
    return {
        "provider_id": name,
        "provider_name": name,
        "provider_description": "",
        "provider_website": "",
        "provider_docs": "",
        "provider_status": "active",
        "babysea_implementation": {
            "delivery_method": "webhook_with_polling",
            "cancel_method": "prediction_cancel_api",
            "webhook_verification": "hmac_sha256",
            "error_mapping": True,
            "cost_tracking": True,
            "schema_conversion": True,
            "failover_strategy": "ordered",
            "health_monitoring": True,
            "supported_media_types": sorted({model.kind for model in mine}),
            "supported_models_total": len(mine),
        },
    }
