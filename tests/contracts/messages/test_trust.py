"""Law 11: what is believed, from whom, and about what."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import AT, COUNT, ENDED, HEARTBEAT, ID, SAMPLES
from trusted import KEYRING, TRUST, believed, own, received

from milepost_contracts.clock import now
from milepost_contracts.errors import MalformedEvent, RefusedMessage
from milepost_contracts.http.webhooks import routing_key
from milepost_contracts.ids import Keyring
from milepost_contracts.messages.cloudevent import encode
from milepost_contracts.messages.delay_levels import MAX_DELAY, delay_words
from milepost_contracts.messages.job_events import (
    DeletionRequest,
    JobDeleted,
    JobEvent,
    JobPostponed,
    JobRetrying,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
)
from milepost_contracts.messages.senders import FACTS, Role
from milepost_contracts.messages.trust import Trust
from milepost_contracts.messages.worker_events import (
    Announcement,
    ProcessorAnnounced,
    ProcessorHeartbeat,
    ProcessorStopped,
    WorkerEvent,
)
from milepost_contracts.values import Attempt, FileRef, PutOff

JOB_SAMPLES = [sample for sample in SAMPLES if not isinstance(sample, WorkerEvent)]
WORKER_SAMPLES = [sample for sample in SAMPLES if isinstance(sample, WorkerEvent)]
STARTED = next(sample for sample in SAMPLES if isinstance(sample, JobStarted))
SUCCEEDED = next(sample for sample in SAMPLES if isinstance(sample, JobSucceeded))
RETRYING = next(sample for sample in SAMPLES if isinstance(sample, JobRetrying))
USER_OF = {Role.GATEWAY: "gateway", Role.TRACKER: "tracker", Role.PROCESSOR: "processor"}
OF_ONE_JOB = [sample for sample in JOB_SAMPLES if not isinstance(sample, JobDeleted)]


def fact(sample):
    return sample.fact


def decode(message):
    return TRUST.worker_event(message) if b"dev.milepost.processor" in message.body else TRUST.job_message(message)


@pytest.mark.parametrize("sample", [*OF_ONE_JOB, *WORKER_SAMPLES], ids=fact)
@pytest.mark.parametrize("role", list(Role))
def test_a_fact_is_believed_from_the_roles_that_may_state_it_alone(sample, role):
    """A gateway can't publish an outcome, and a processor can't submit."""
    message = received(sample, user_id=USER_OF[role])
    if sample.fact in FACTS[role]:
        assert believed(sample) == decode(message)
    else:
        with pytest.raises(RefusedMessage, match="may not state"):
            decode(message)


@pytest.mark.parametrize("sample", [*OF_ONE_JOB, *WORKER_SAMPLES], ids=fact)
@pytest.mark.parametrize("user", [None, "", "guest", "spy"])
def test_a_message_of_nobody_and_of_a_stranger_is_refused(sample, user):
    """The broker verifies a user_id, but not that there is one."""
    with pytest.raises(RefusedMessage):
        decode(received(sample, user_id=user))


@pytest.mark.parametrize("sample", [*OF_ONE_JOB, *WORKER_SAMPLES], ids=fact)
@pytest.mark.parametrize(
    "wrong",
    [
        {"routing_key": "job.succeeded.other.digest-files"},
        {"routing_key": ""},
        {"routing_key": "processor.anything"},
        {"correlation_id": "another"},
        {"correlation_id": None},
        {"content_type": "application/json"},
        {"content_type": None},
    ],
    ids=str,
)
def test_a_message_that_does_not_look_as_it_implies_is_refused(sample, wrong):
    """Otherwise it would reach queues that it does not belong into."""
    user = "processor" if sample.fact in FACTS[Role.PROCESSOR] else "gateway"
    if sample.fact not in FACTS[Role.PROCESSOR] | FACTS[Role.GATEWAY]:
        user = "tracker"
        if wrong == {"routing_key": ""}:  # published for the log alone
            return
    with pytest.raises(RefusedMessage):
        decode(received(sample, user_id=user, **wrong))


@pytest.mark.parametrize("seconds", [0, 1, 2**23 - 1])
def test_the_bits_of_a_delay_may_be_those_of_the_rest_of_it(seconds):
    """A tracker publishes a waiting job again whose level was missing."""
    words = RETRYING.routing_key.split(".")[:4]
    key = ".".join([*words, delay_words(timedelta(seconds=seconds))])
    assert believed(RETRYING) == TRUST.job_message(received(RETRYING, user_id="tracker", routing_key=key))


@pytest.mark.parametrize("bits", ["1", "0.1", "x" * 45, "0." * 23 + "0", "0." * 22 + "2"])
def test_other_words_after_the_four_of_a_routing_key_are_refused(bits):
    """A waiting job has as many bits as there are levels; other events have none."""
    for event in (RETRYING, STARTED):
        with pytest.raises(RefusedMessage):
            TRUST.job_message(received(event, routing_key=".".join([*event.routing_key.split(".")[:4], bits])))


def test_what_a_tracker_publishes_for_the_log_alone_needs_no_routing_key():
    """It repeats what the log would forget."""
    assert believed(STARTED) == TRUST.job_message(received(STARTED, user_id="tracker", routing_key=""))


FROZEN = {
    "id": ID[:-1] + "0",
    "run": 2,
    "tenant": "other",
    "type": "count",
    "queue": "gpu",
    "created_at": AT + timedelta(milliseconds=1),
    "tags": ("others",),
    "batch": "abc",
    "callback_url": "https://example.com",
}


@pytest.mark.parametrize("field", FROZEN)
@pytest.mark.parametrize("kind", [JobStarted, JobSucceeded])
def test_what_a_job_is_can_not_be_changed_without_the_id_keys(field, kind):
    """Its identity, its run, and where its news go: from its submission on."""
    sample = believed(STARTED if kind is JobStarted else SUCCEEDED)
    forged = sample.job.model_copy(update={field: FROZEN[field], "files": ()})
    event = kind(job=forged)
    with pytest.raises(RefusedMessage, match="grant"):
        TRUST.job_message(received(event)._replace(body=encode(event)))


def test_a_job_without_a_grant_is_refused():
    """It may be an invented one; a gateway of an earlier release made none."""
    with pytest.raises(RefusedMessage, match="grant"):
        TRUST.job_message(received(SUCCEEDED)._replace(body=encode(SUCCEEDED)))


@pytest.mark.parametrize("grant", ["", "1-", "x-00", "1-é", "-1-00", "9999-00", "1-" + "0" * 40])
def test_an_invented_grant_is_refused(grant):
    """Whatever it looks like."""
    event = JobStarted(job=STARTED.job.model_copy(update={"grant": grant}))
    with pytest.raises(RefusedMessage, match="grant"):
        TRUST.job_message(received(event)._replace(body=encode(event)))


def test_another_mac_of_the_same_keys_is_no_grant():
    """A stream token and a grant are made for different purposes."""
    job = own(STARTED.job)
    event = JobStarted(job=job.model_copy(update={"grant": KEYRING.seal(job.id)}))
    with pytest.raises(RefusedMessage, match="grant"):
        TRUST.job_message(received(event)._replace(body=encode(event)))


def test_grants_outlive_the_rotation_of_the_id_keys():
    """In each of its steps: the number of the key is part of a grant."""
    old, new = "1:" + "ab" * 32, "2:" + "cd" * 32
    message = received(STARTED)
    for keys in (f"{old},{new}", f"{new},{old}"):
        assert believed(STARTED) == Trust(TRUST.senders, Keyring.parse(keys)).job_message(message)
    with pytest.raises(RefusedMessage):
        Trust(TRUST.senders, Keyring.parse(new)).job_message(message)


def test_a_deletion_is_believed_for_an_issued_id_alone():
    """Of its own tenant."""

    def deletion(job_id, tenant):
        return JobDeleted(request=DeletionRequest(job_id=job_id, tenant=tenant, type="count", queue="default", run=1))

    issued = deletion(KEYRING.issue("default"), "default")
    assert issued == TRUST.job_message(received(issued))
    for forged in (deletion(KEYRING.issue("default"), "other"), deletion(ID, "default")):
        with pytest.raises(RefusedMessage, match="issued"):
            TRUST.job_message(received(forged))


@pytest.mark.parametrize("sample", [one for one in OF_ONE_JOB if one.fact in FACTS[Role.PROCESSOR]], ids=fact)
def test_a_processors_facts_hold_for_jobs_of_its_queues_alone(sample):
    """A user may be limited to some queues."""
    sample = sample.model_copy(update={"job": sample.job.model_copy(update={"queue": "gpu"})})
    assert believed(sample) == TRUST.job_message(received(sample, user_id="gpu-team"))
    other = sample.model_copy(update={"job": sample.job.model_copy(update={"queue": "cpu"})})
    with pytest.raises(RefusedMessage, match="may not serve the queue cpu"):
        TRUST.job_message(received(other, user_id="gpu-team"))


@pytest.mark.parametrize("sample", WORKER_SAMPLES, ids=fact)
def test_a_processor_announces_and_reports_its_own_queues_alone(sample):
    """The samples name the queue `default`."""
    with pytest.raises(RefusedMessage, match="may not serve the queue default"):
        TRUST.worker_event(received(sample, user_id="gpu-team"))


@pytest.mark.parametrize(
    "change",
    [{"media_type": "text/\u20ac"}, {"media_type": "a/b\r\nX: y"}, {"size": 10**4_299}, {"media_type": "a/b\n"}],
    ids=["no ASCII", "a header", "a size of 4,300 digits", "a line"],
)
def test_a_file_is_described_by_what_a_download_can_answer(change):
    """A processor states it; the gateway writes it into the head of its answer."""
    sample = next(one for one in OF_ONE_JOB if one.fact == "job.succeeded")
    body = json.loads(encode(believed(sample)))
    body["data"]["outputs"] = [{"name": "a", "key": f"jobs/{ID}/0/0000", "size": 3, **change}]
    with pytest.raises(MalformedEvent, match="outputs"):
        TRUST.job_message(received(sample)._replace(body=json.dumps(body).encode()))


@pytest.mark.parametrize("name", ["vm-1-ab12", "gpu-team", "gpu-team2:vm-1", "other:gpu-team:vm-1"])
def test_a_processor_that_is_limited_to_queues_speaks_for_no_other_one(name):
    """The name of its instances begins with its user; one that may serve all queues has any name."""
    state = HEARTBEAT.model_copy(update={"queues": ("gpu",), "queue_wait": {}, "instance": "gpu-team:vm-1"})
    assert TRUST.worker_event(received(ProcessorHeartbeat(heartbeat=state), user_id="gpu-team"))
    other = ProcessorStopped(heartbeat=state.model_copy(update={"instance": name}))
    with pytest.raises(RefusedMessage, match="name of its processor does not begin with 'gpu-team:'"):
        TRUST.worker_event(received(other, user_id="gpu-team"))
    assert TRUST.worker_event(received(other, user_id="processor"))


@pytest.mark.parametrize(
    "key",
    [
        "jobs/another/0000",
        f"jobs/{ID}x/0000",
        f"jobs/{ID}/../another/0000",
        f"jobs/{ID}/./0000",
        f"jobs/{ID}//0000",
        f"jobs/{ID}/a\\b",
        f"jobs/{ID}/a\n",
        f"jobs/{ID}/a%2e",
        f"jobs/{ID}/",
        f"/jobs/{ID}/0000",
        "",
    ],
)
@pytest.mark.parametrize("field", ["files", "outputs", "result_file", "saved_state_file"])
def test_a_file_outside_of_the_jobs_folder_is_refused(field, key):
    """Nobody reads another job's file through an event."""
    file = FileRef(name="x", size=1, key=key)
    event = JobSucceeded(job=ENDED.model_copy(update={field: (file,) if field in ("files", "outputs") else file}))
    with pytest.raises(MalformedEvent, match="folder"):
        TRUST.job_message(received(event)._replace(body=encode(event)))


def test_a_webhook_is_believed_from_trackers_and_gateways():
    """Only they have webhooks sent; the job in it must be granted too."""
    end = believed(JobSucceeded(job=ENDED.model_copy(update={"callback_url": "https://example.com"})))
    key = routing_key(end.job, after=timedelta(seconds=5))
    for user in ("tracker", "gateway"):
        assert end == TRUST.webhook(received(end, user_id=user, routing_key=key))
    for wrong in ({"user_id": "processor"}, {"routing_key": end.routing_key}, {"correlation_id": "x"}):
        with pytest.raises(RefusedMessage):
            TRUST.webhook(received(end, **{"user_id": "tracker", "routing_key": key, **wrong}))


def test_a_postponed_job_is_believed_in_quarantine_too():
    """Its routing key names another fact there."""
    event = JobPostponed(job=RETRYING.job.model_copy(update={"quarantined": 100, "worker": None}))
    assert believed(event) == TRUST.job_message(received(event))


@given(st.binary(max_size=200), st.text(max_size=20), st.none() | st.text(max_size=20))
def test_whatever_arrives_is_believed_or_refused(body, key, user):
    """No message raises anything else."""
    message = received(body, routing_key=key, user_id=user, correlation_id=user, content_type=key)
    for believe in (TRUST.job_message, TRUST.webhook, TRUST.worker_event):
        with pytest.raises(MalformedEvent):
            believe(message)


@given(st.sampled_from([one for one in OF_ONE_JOB if isinstance(one, JobEvent)]), st.text(max_size=80))
def test_no_routing_key_but_that_of_the_event_is_believed(event, key):
    """From a processor or a gateway."""
    implied = event.routing_key
    if key in (implied, ".".join(implied.split(".")[:4])):
        return
    user = "gateway" if isinstance(event, JobSubmitted) else "processor"
    with pytest.raises(RefusedMessage):
        TRUST.job_message(received(event, routing_key=key, user_id=user))


FUTURE = datetime(2500, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize("field", ["started_at", "finished_at"])
def test_a_job_in_which_something_has_happened_in_the_future_is_not_believed(field):
    """It could not be ended as lost, nor expire."""
    stated = SUCCEEDED.model_copy(update={"job": SUCCEEDED.job.model_copy(update={field: FUTURE})})
    with pytest.raises(RefusedMessage, match="a time in the future"):
        decode(received(stated))


def test_an_event_of_the_future_is_not_believed():
    """Nor are its attempts, nor since when it is put off."""
    put_off = PutOff(since=FUTURE, until=AT)
    attempt = Attempt(number=1, started_at=AT, ended_at=FUTURE)
    for stated in (
        STARTED.model_copy(update={"time": FUTURE}),
        STARTED.model_copy(update={"job": STARTED.job.model_copy(update={"attempts": (attempt,)})}),
        STARTED.model_copy(update={"job": STARTED.job.model_copy(update={"put_off": put_off})}),
    ):
        with pytest.raises(RefusedMessage, match="a time in the future"):
            decode(received(stated))


def test_a_job_that_waits_for_longer_than_any_job_may_is_not_believed():
    """It would be retrying for ever. The longest delay of the API, and one with jobs before it, are believed."""
    for until, is_believed in ((FUTURE, False), (now() + 1.3 * MAX_DELAY, True)):
        stated = received(RETRYING.model_copy(update={"job": RETRYING.job.model_copy(update={"run_at": until})}))
        stated = stated._replace(routing_key=".".join([*stated.routing_key.split(".")[:4], delay_words(MAX_DELAY)]))
        if is_believed:
            assert decode(stated).job.run_at == until.replace(microsecond=until.microsecond // 1000 * 1000)
        else:
            with pytest.raises(RefusedMessage, match="waits for a time more than 180 days away"):
                decode(stated)


@pytest.mark.parametrize("ahead", [timedelta(minutes=-30), timedelta(minutes=30), timedelta(days=-40)])
def test_clocks_may_be_wrong_by_minutes_and_logs_may_be_old(ahead):
    """The event of a processor whose clock is behind or ahead is believed; so is one from a replay."""
    stated = STARTED.model_copy(update={"time": now() + ahead})
    assert believed(stated) == decode(received(stated))


def test_new_jobs_are_believed_though_the_clock_here_is_years_behind(monkeypatch):
    """A gateway vouches for the time of their creation."""
    monkeypatch.setattr("milepost_contracts.messages.trust.now", lambda: datetime(1999, 1, 1, tzinfo=UTC))
    for sample in OF_ONE_JOB:
        assert believed(sample) == decode(received(sample))


@pytest.mark.parametrize("version", [" x", "a b", "a\n", "é"])
def test_a_version_that_separated_texts_can_not_hold_is_not_believed(version):
    """It is stored between spaces, and what cuts it apart again would fail for every processor of the type."""
    job_type = COUNT.model_copy(update={"version": version})
    with pytest.raises(MalformedEvent, match="version"):
        decode(received(ProcessorAnnounced(announcement=Announcement(instance="x", types=(job_type,)))))


@pytest.mark.parametrize("field", ["held", "threads"])
def test_a_number_that_can_not_be_added_up_is_not_believed(field):
    """The trackers and the gateway add up what processors have."""
    with pytest.raises(MalformedEvent, match=field):
        decode(received(ProcessorHeartbeat(heartbeat=HEARTBEAT.model_copy(update={field: 10**400}))))


def test_a_number_with_which_the_end_of_a_job_can_not_be_stated_is_not_believed():
    """A canceled job takes its delivery number from that of its quarantine: no such end could be published."""
    stated = RETRYING.model_copy(update={"job": RETRYING.job.model_copy(update={"quarantined": 99_999_999})})
    with pytest.raises(MalformedEvent, match="quarantined"):
        decode(received(stated))
