"""`/v1/jobs/{id}/webhooks`, and `/v1/webhook-secrets`."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from milepost_contracts.http.webhooks import WebhookSecrets, WebhookTries
from milepost_contracts.values import Value
from milepost_gateway.api import headers, responses
from milepost_gateway.api.authentication import MAY_ADMINISTER, MAY_READ, MAY_SUBMIT, tenant
from milepost_gateway.api.dependencies import dependencies

router = APIRouter(prefix="/v1", tags=["webhooks"])


class Redelivery(Value):
    webhook_id: str
    """`webhook-id`: the same for every delivery attempt."""


@router.get(
    "/jobs/{job_id}/webhooks",
    dependencies=[MAY_READ],
    summary="List the delivery attempts of a job's webhooks",
    responses=responses.problems(400, 404, 409, 410, 503),
)
async def list_webhooks(request: Request, job_id: str, response: Response) -> WebhookTries:
    """Answer the latest 100 attempts, oldest first, each with the time of the next one if there is one."""
    response.headers.update(responses.STATUS_HEADERS)
    return await dependencies(request).webhooks.tries(job_id, tenant=tenant(request))


@router.post(
    "/jobs/{job_id}/webhooks/redeliver",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Redeliver a job's webhook",
    responses={202: headers.sent("Location"), **responses.problems(400, 404, 409, 410, 429, 503)},
)
async def redeliver_webhook(request: Request, job_id: str, response: Response) -> Redelivery:
    """Answer 202 once the webhook is stored durably; it is sent even if the URL has answered 410 before.

    It counts as a submission for the tenant's limits.
    """
    deps = dependencies(request)
    await deps.quotas.acquire(tenant(request))
    webhook_id = await deps.webhooks.publish_webhook(job_id, tenant=tenant(request))
    response.headers["Location"] = str(request.url_for("list_webhooks", job_id=job_id))
    return Redelivery(webhook_id=webhook_id)


@router.get(
    "/webhook-secrets",
    dependencies=[MAY_ADMINISTER],
    summary="Get the secrets that verify webhooks",
    responses=responses.problems(409),
)
async def get_webhook_secrets(request: Request, response: Response) -> WebhookSecrets:
    """Answer one secret, or two during a rotation: a receiver accepts a webhook that either of them verifies."""
    response.headers["Cache-Control"] = "no-store"
    return dependencies(request).webhooks.secrets(tenant(request))
