"""What somebody with a processor's credentials at RabbitMQ can't do, with a complete stack (law 11).

The attacker reads every event, grants included, and publishes what it likes. Every forged message must be set aside in
the poison queue with its reason, and change nothing: no status, no stream, no webhook, no execution.
"""

import asyncio
from datetime import timedelta

import aio_pika
import httpx
import pytest
from broker_control import add_users
from redis import Redis
from waiting import wait_until
from yarl import URL

from milepost_client import find_files
from milepost_contracts.clock import now
from milepost_contracts.http.webhooks import routing_key
from milepost_contracts.messages.cloudevent import CONTENT_TYPE, encode
from milepost_contracts.messages.job_events import (
    CancelRequest,
    CancelRequested,
    JobCanceled,
    JobEvent,
    JobInterrupted,
    JobProgressed,
    JobQuarantined,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    decode_event,
)
from milepost_contracts.messages.topology import Topology
from milepost_contracts.messages.worker_events import (
    Announcement,
    Heartbeat,
    JobType,
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
)

TOPOLOGY = Topology()
RESULT = {"steps": 666}


@pytest.fixture(scope="module", autouse=True)
def users(stack):
    """The users of the session's stack that nobody but attackers has, and one that Milepost does not know."""
    add_users(stack, "thief", "gpu-team", "stranger", password="secret")


class Attacker:
    """Somebody with RabbitMQ credentials."""

    def __init__(self, stack, http):
        self._url = URL(stack.state.rabbitmq_url)
        self._http = http

    def _do(self, user, act):
        async def connected():
            url = str(self._url.with_user(user).with_password("secret"))
            async with await aio_pika.connect(url) as connection:
                return await act(await connection.channel())

        return asyncio.run(connected())

    def publish(self, *messages, user="thief", exchange=TOPOLOGY.jobs, **properties):
        """Publish messages as a service would, but for these properties; return once they are stored."""

        async def send(channel):
            target = await channel.get_exchange(exchange.name, ensure=False)
            for message in messages:
                made = {"user_id": user, "correlation_id": message.subject, "content_type": CONTENT_TYPE, **properties}
                key = made.pop("routing_key", message.routing_key)
                await target.publish(aio_pika.Message(encode(message), delivery_mode=2, **made), key, mandatory=False)

        self._do(user, send)

    @property
    def refused(self):
        """The reasons for which messages were set aside."""
        items = self._http.get("/v1/dead-letters", params={"limit": 1_000}).json()["unreadable"]
        return [one["reason"] for one in items]

    def forge(self, *messages, reason, **how):
        """Publish messages, and wait until each is set aside for this reason."""
        before = sum(reason in one for one in self.refused)
        self.publish(*messages, **how)
        wait_until(
            lambda: sum(reason in one for one in self.refused) >= before + len(messages),
            within=30,
            what=f"{len(messages)} messages are set aside because {reason!r}",
        )

    def spied(self, job_id):
        """Return the latest event of a job, as the stream of a client has it, with its grant."""
        with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers={"Accept": "application/x-ndjson"}) as lines:
            for line in lines.iter_lines():
                event = decode_event(line.encode())
                if isinstance(event, JobEvent):
                    return event
        raise AssertionError("it has no event")


@pytest.fixture
def attacker(stack, http):
    return Attacker(stack, http)


def refused_by(stack, queue):
    """Return how many messages of a queue the tracker has refused."""
    metrics = httpx.get(stack.state.process("tracker-1").url + "/metrics").text.splitlines()
    counts = [line for line in metrics if line.startswith("milepost_messages_refused_total{") and queue in line]
    return sum(float(line.split()[-1]) for line in counts)


@pytest.fixture
def waiting(client, attacker):
    """A job that waits for tomorrow, and its event."""
    handle = client.submit("count", {"steps": 1, "delay": 0}, delay=timedelta(days=1))
    wait_until(lambda: client.job(handle.id).document.version > 0, within=20, what="it is projected")
    return attacker.spied(handle.id).job


@pytest.fixture
def failed(client, attacker):
    """A job that has failed."""
    handle = client.submit("call-service", {"refusals": 99})
    assert "failed" == handle.wait(60).status
    return attacker.spied(handle.id).job


@pytest.fixture
def succeeded(client, attacker):
    """A job that has succeeded."""
    handle = client.submit("count", {"steps": 1, "delay": 0})
    assert "succeeded" == handle.wait(60).status
    return attacker.spied(handle.id).job


def end(job, **changes):
    """An invented success."""
    update = {"finished_at": now(), "result": RESULT, "delivery": 5, "execution": "bad0bad0", "step": 1, **changes}
    return JobSucceeded(job=job.model_copy(update=update))


def started(job, **changes):
    """A consistent start, later than everything before."""
    update = {
        "finished_at": None,
        "error": None,
        "delivery": job.delivery + 50,
        "execution": "bad0bad0",
        "step": 1,
        "attempt": job.attempt + 1,
        "started_at": now(),
    }
    return JobStarted(job=job.model_copy(update={**update, **changes}))


def status(http, job_id):
    return http.get(f"/v1/jobs/{job_id}").json()["status"]


def test_a_job_of_another_queue_is_not_ended_with_an_invented_result(attacker, http, waiting):
    """The user may serve the queue `gpu` alone."""
    attacker.forge(end(waiting), user="gpu-team", reason="may not serve the queue default")
    assert ("scheduled", None) == (status(http, waiting.id), http.get(f"/v1/jobs/{waiting.id}").json()["result"])


def test_a_job_is_not_moved_to_another_tenant(attacker, http, waiting):
    """Nor ended there."""
    attacker.forge(end(waiting, tenant="other"), started(waiting, tenant="other"), reason="grant")
    assert "scheduled" == status(http, waiting.id)


@pytest.mark.parametrize(
    "change", [{"type": "echo"}, {"queue": "gpu"}, {"callback_url": "https://example.com"}, {"tags": ("x",)}], ids=str
)
def test_a_job_does_not_become_another_one(attacker, http, waiting, change):
    """Its type, its queue and where its news go are those of its submission."""
    attacker.forge(started(waiting, **change), reason="grant")
    assert "scheduled" == status(http, waiting.id)


def test_no_job_is_invented(attacker, http, waiting):
    """Neither with the grant of another job, nor without one."""
    invented = waiting.id[:-4] + "0000"
    for grant in (waiting.grant, None):
        attacker.forge(end(waiting, id=invented, grant=grant, files=()), reason="grant")
    assert 404 == http.get(f"/v1/jobs/{invented}").status_code
    assert invented not in {one["id"] for one in http.get("/v1/jobs").json()["items"]}


@pytest.mark.parametrize("fact", [JobSubmitted, JobQuarantined])
def test_a_processor_submits_nothing_and_puts_nothing_into_quarantine(attacker, http, waiting, fact):
    """Not even the very job that was accepted, before its time; neither the tracker nor a processor takes it."""
    attacker.forge(fact(job=waiting), reason=f"the user 'thief' may not state {fact.fact}")
    assert "scheduled" == status(http, waiting.id)


def test_a_processor_cancels_nothing(attacker, http, client):
    """Cancel requests go to trackers and processors; both refuse it."""
    handle = client.submit("count", {"steps": 30, "delay": 0.1})
    wait_until(lambda: status(http, handle.id) == "running", within=30, what="it runs")
    request = CancelRequest(job_id=handle.id, type="count", queue="default", requested_at=now())
    attacker.forge(CancelRequested(request=request), reason="may not state job.cancel-requested")
    assert http.get(f"/v1/jobs/{handle.id}").json()["cancel_requested"] is None
    assert "succeeded" == handle.wait(60).status


def test_a_file_of_another_job_is_not_downloaded(attacker, http, client, tmp_path, waiting):
    """An output whose key is another job's: the event is refused."""
    (tmp_path / "secret.txt").write_text("secret")
    victim = client.submit("digest-files", files=find_files([tmp_path]))
    victim.wait(60)
    (secret,) = attacker.spied(victim.id).job.files
    attacker.forge(end(waiting, outputs=(secret,)), end(waiting, result_file=secret), reason="not in the folder")
    assert 404 == http.get(f"/v1/jobs/{waiting.id}/outputs/{secret.name}").status_code


def test_a_type_is_not_announced_into_another_queue(attacker, http):
    """Nor into one's own queue, away from one that one may not serve."""
    schema = {"type": "object"}
    for queue, user in (("gpu", "gpu-team"), ("default", "gpu-team")):
        count = JobType(type="count", queue=queue, title="Mine", params_schema=schema, result_schema=schema)
        announced = ProcessorAnnounced(
            announcement=Announcement(instance="gpu-team:mine", types=(count,), started_at=now())
        )
        attacker.forge(announced, user=user, exchange=TOPOLOGY.workers, reason="may not serve the queue default")
    (known,) = (one for one in http.get("/v1/job-types").json()["items"] if one["type"] == "count")
    assert ("default", "Count") == (known["queue"], known["title"].split()[0])


def test_a_type_is_not_announced_into_another_queue_after_redis_has_lost_it(attacker, http, redis_of):
    """Until its processor announces it again, the trackers alone know where it belongs."""
    redis_of.flushall()
    wait_until(lambda: http.get("/v1/dead-letters").is_success, within=30, what="the view is restored")
    count = JobType(type="count", queue="gpu", title="Mine", params_schema={}, result_schema={})
    announced = ProcessorAnnounced(
        announcement=Announcement(instance="gpu-team:mine", types=(count,), started_at=now())
    )
    attacker.forge(announced, user="gpu-team", exchange=TOPOLOGY.workers, reason="may not serve the queue default")
    wait_until(
        lambda: {"count"} & {one["type"] for one in http.get("/v1/job-types").json()["items"]},
        within=30,
        what="its processor has announced it again",
    )


def test_a_heartbeat_does_not_speak_for_another_queue(attacker, http):
    """A queue without a live processor would seem to have one."""
    heartbeat = Heartbeat(
        instance="gpu-team:mine", started_at=now(), types=("count",), queues=("gpu", "default"), threads=99, version="1"
    )
    message = ProcessorHeartbeat(heartbeat=heartbeat)
    attacker.forge(message, user="gpu-team", exchange=TOPOLOGY.workers, reason="may not serve the queue default")
    assert "mine" not in http.get("/v1/processors").text


def test_a_processor_does_not_speak_for_another_one(attacker, http):
    """It would count as gone, with the versions of its types; or with other queues and jobs."""
    (victim, *_) = wait_until(
        lambda: http.get("/v1/processors").json()["items"], within=20, what="a processor has sent a heartbeat"
    )
    state = Heartbeat(
        instance=victim["instance"], started_at=now(), types=("count",), queues=("gpu",), threads=1, version="1"
    )
    for message in (ProcessorHeartbeat(heartbeat=state), ProcessorStopped(heartbeat=state)):
        attacker.forge(message, user="gpu-team", exchange=TOPOLOGY.workers, reason="does not begin with 'gpu-team:'")
    (seen,) = (one for one in http.get("/v1/processors").json()["items"] if one["instance"] == victim["instance"])
    assert victim["queues"] == seen["queues"]


def test_no_forged_start_undoes_a_failure(attacker, http, failed):
    """0 of 15, each with a higher delivery number; the last ones with the highest."""
    highest = [started(failed, delivery=9_999_999 - n) for n in range(3)]
    attacker.publish(*(started(failed, delivery=failed.delivery + n) for n in range(1, 10)), *highest)
    later = {"finished_at": None, "delivery": 9_999_990, "execution": "bad0bad0", "worker": None, "run_at": now()}
    attacker.publish(
        *(kind(job=failed.model_copy(update=later)) for kind in (JobProgressed, JobInterrupted, JobRetrying))
    )
    beyond = [
        (start := started(failed)).model_copy(update={"job": start.job.model_copy(update={"delivery": delivery})})
        for delivery in (10_000_000, 99_999_999)
    ]
    attacker.forge(*beyond, reason="delivery number")
    attacker.forge(started(failed, tenant="other"), reason="grant")  # what was published before it is applied by now
    assert "failed" == status(http, failed.id)


def test_no_forged_run_undoes_a_success(attacker, http, succeeded):
    """0 of 20: a gateway alone lets a run begin."""
    attacker.forge(*(started(succeeded, run=run) for run in range(2, 22)), reason="grant")
    assert ("succeeded", 1) == ((document := http.get(f"/v1/jobs/{succeeded.id}").json())["status"], document["run"])


def test_a_new_run_is_a_gateways_own(attacker, http, client, failed):
    """After a retry, the second run has a grant of its own; that of the first one does not serve for it."""
    http.post(f"/v1/jobs/{failed.id}/retry").raise_for_status()
    attacker.forge(end(failed, run=2, error=None), reason="grant")
    assert "failed" == client.job(failed.id).wait(60).status


@pytest.mark.parametrize("user", [None, "stranger"])
def test_a_message_of_nobody_or_of_a_stranger_is_refused(attacker, http, waiting, user):
    """A user_id can be left out, and RabbitMQ may have other users."""
    reason = "it has no user_id" if user is None else "the user 'stranger' may not state"
    attacker.forge(end(waiting), user=user or "thief", user_id=user, reason=reason)
    progress = JobProgressed(job=started(waiting).job)
    attacker.forge(progress, user=user or "thief", user_id=user, reason=reason)
    assert "scheduled" == status(http, waiting.id)


@pytest.mark.parametrize(
    "wrong",
    [{"routing_key": "job.succeeded.gpu.count"}, {"correlation_id": "x"}, {"content_type": "text/plain"}],
    ids=str,
)
def test_a_message_that_does_not_look_as_its_event_implies_is_refused(attacker, http, waiting, wrong):
    """Otherwise other teams' queues would get what is not theirs."""
    attacker.forge(end(waiting), reason="its ", **wrong)
    assert "scheduled" == status(http, waiting.id)


def test_no_webhook_is_sent_for_a_processor(attacker, http, stack, waiting):
    """Not even for a job with a callback URL: the gateway and the tracker have webhooks sent."""
    event = end(waiting, callback_url="https://example.com")
    how = {"exchange": TOPOLOGY.webhooks, "routing_key": routing_key(event.job, after=timedelta(0))}
    before = refused_by(stack, "webhooks")
    attacker.publish(event, **how)
    wait_until(lambda: refused_by(stack, "webhooks") > before, within=20, what="it is refused")
    assert "scheduled" == status(http, waiting.id)


def test_nothing_is_laundered_through_the_queues_of_the_tracker(attacker, http, waiting):
    """What the tracker moves or publishes again has the tracker's user: it checks that first."""
    for exchange in (TOPOLOGY.dead_letters, TOPOLOGY.unrouted, TOPOLOGY.entry, TOPOLOGY.republished):
        if exchange is not TOPOLOGY.republished:
            attacker.forge(JobSubmitted(job=waiting), exchange=exchange, reason="may not state job.submitted")
    progress_key = f"job.progressed.{waiting.queue}.{waiting.type}"
    attacker.forge(JobSubmitted(job=waiting), routing_key=progress_key, reason="may not state job.submitted")
    attacker.forge(end(waiting, tenant="other"), exchange=TOPOLOGY.unrouted, reason="grant")
    assert "scheduled" == status(http, waiting.id)


def test_a_replay_of_the_log_believes_no_more(attacker, http, stack, redis_of, waiting, failed, succeeded):
    """The log has everything that was forged: an empty Redis is restored without it."""
    attacker.publish(
        end(waiting, tenant="other"), started(succeeded, run=2), started(failed), JobSubmitted(job=waiting)
    )
    attacker.publish(end(waiting, tenant="other"), end(waiting, run=9), exchange=TOPOLOGY.republished, routing_key="")
    attacker.forge(JobCanceled(job=end(waiting, run=3).job), reason="grant")
    redis_of.flushall()
    found = {waiting.id: "scheduled", failed.id: "failed", succeeded.id: "succeeded"}

    def restored():
        answers = {job_id: http.get(f"/v1/jobs/{job_id}") for job_id in found}
        shown = [one.status_code == httpx.codes.OK and one.json()["version"] > 0 for one in answers.values()]
        return all(shown) and {job: status(http, job) for job in answers}

    assert found == wait_until(restored, within=60, what="the view is restored")


@pytest.fixture
def redis_of(stack):
    with Redis.from_url(stack.state.redis_url) as made:
        yield made


def test_the_services_metrics_count_what_is_refused(stack, attacker, waiting):
    """An operator can have an alert on it."""
    attacker.forge(started(waiting, tenant="other"), reason="grant")
    assert refused_by(stack, "lifecycle") >= 1
