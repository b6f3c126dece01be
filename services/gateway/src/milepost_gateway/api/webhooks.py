"""`/v1/jobs/{id}/webhooks`, and the secrets that receivers verify webhooks with."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel

from milepost_contracts.webhooks import WebhookSecrets, WebhookTries
from milepost_gateway.api import responses
from milepost_gateway.api.access import MAY_ADMINISTER, MAY_READ, MAY_SUBMIT, tenant
from milepost_gateway.api.services import services

router = APIRouter(prefix="/v1", tags=["webhooks"])


class Redelivery(BaseModel):
    #: What every try to deliver it carries.
    webhook_id: str


@router.get(
    "/jobs/{job_id}/webhooks",
    dependencies=[MAY_READ],
    summary="Look at what became of a job's webhooks",
    responses=responses.problems(404, 409, 410, 503),
)
async def list_webhooks(request: Request, job_id: str, response: Response) -> WebhookTries:
    """Answer every try that is remembered, oldest first, and when the next one comes."""
    response.headers.update(responses.STATUS_HEADERS)
    return await services(request).webhooks.tries(job_id, tenant=tenant(request))


@router.post(
    "/jobs/{job_id}/webhooks/redeliver",
    status_code=202,
    dependencies=[MAY_SUBMIT],
    summary="Send a job's webhook again",
    responses=responses.problems(404, 409, 410, 429, 503),
)
async def redeliver_webhook(request: Request, job_id: str, response: Response) -> Redelivery:
    """Answer 202 once the webhook is stored durably, on its way; to a URL too that has answered 410 before.

    It counts as a submission, where the tenant may hand over so many a second.
    """
    parts = services(request)
    await parts.admission.admit(tenant(request))
    webhook_id = await parts.webhooks.tell_again(job_id, tenant=tenant(request))
    response.headers["Location"] = str(request.url_for("list_webhooks", job_id=job_id))
    return Redelivery(webhook_id=webhook_id)


@router.get(
    "/webhook-secrets",
    dependencies=[MAY_ADMINISTER],
    summary="Get the secrets that your receivers verify webhooks with",
    responses=responses.problems(409),
)
async def get_webhook_secrets(request: Request, response: Response) -> WebhookSecrets:
    """Answer one secret, or two while they are changed: a receiver takes what verifies with either."""
    response.headers["Cache-Control"] = "no-store"
    return services(request).webhooks.secrets(tenant(request))
