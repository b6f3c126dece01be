"""The fault matrix (docs/faults.md) with one RabbitMQ and one Redis: each fault, and its allowed effects."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from fault_suite.fault import Act, Fault, Scene
from fault_suite.harm_broker import (
    COMMANDS,
    EVENTS,
    alarm,
    block_memory,
    repeat,
    restart_broker,
    restart_while_jobs_end,
    revoke,
    rotate_password,
    spoil,
    stop_dead_lettering,
)
from fault_suite.harm_deploy import add_field, add_type, run_odd_handlers
from fault_suite.harm_queues import (
    delete_level,
    delete_queue,
    fill_lifecycle,
    limited,
    listen_with_full_queue,
    missing,
    purge,
    refuse_outcomes,
    stop_elsewhere,
    unbind,
)
from fault_suite.harm_redis import fill_redis, flush_redis, kill_redis, restore_snapshot
from fault_suite.harm_services import (
    freeze,
    kill_repeatedly,
    make_zombie,
    misbehave,
    nothing,
    repeatedly,
    roll,
    silent_sockets,
    trackers_down,
    wrong_clock,
)
from fault_suite.proof import Proof, Vacuous

THREADS = 8


def two_at_a_time(scene: Scene) -> Proof:
    """Random faults, two at a time, repeatedly. One may hide another: a killed process can't be frozen."""
    chance = random.Random(scene.pace.seed)
    acts: list[Act] = [
        kill_repeatedly("gateway", every=1, times=2),
        kill_repeatedly("processor", every=1, times=3),
        kill_repeatedly("tracker", every=1, times=2),
        freeze("processor", seconds=6),
        freeze("tracker", seconds=6),
        freeze("redis", seconds=5),
        kill_redis,
        refuse_outcomes,
        spoil,
    ]
    proved = hidden = 0
    ends = time.monotonic() + scene.pace.seconds(60)
    while time.monotonic() < ends:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(act, scene) for act in chance.sample(acts, 2)]:
                try:
                    done.result()
                    proved += 1
                except Vacuous:
                    hidden += 1
    scene.require(hidden <= proved / 4, f"vacuous: {hidden} of {hidden + proved} faults did not take hold")
    return Proof({"faults that took hold": proved})


MATRIX: tuple[Fault, ...] = (
    Fault(name="no fault at all", act=nothing, star=True),
    Fault(
        name="gateway: kill -9 every 5 s, 6 times",
        act=kill_repeatedly("gateway", every=5, times=6),
        star=True,
    ),
    Fault(name="gateway: frozen for 15 s", act=freeze("gateway", seconds=15), may_be_late=True),
    Fault(
        name="processor: kill -9 every 3 s, 10 times",
        act=kill_repeatedly("processor", every=3, times=10),
        star=True,
        max_extra_runs=10 * THREADS,
    ),
    Fault(
        name="processor: frozen beyond its heartbeat, then a zombie",
        act=make_zombie,
        max_extra_runs=2 * THREADS,
    ),
    Fault(name="rolling restart of all services, under load", act=roll, star=True, max_extra_runs=3 * THREADS),
    Fault(
        name="tracker: kill -9 every 2 s, 6 times",
        act=kill_repeatedly("tracker", every=2, times=6),
        star=True,
    ),
    Fault(name="all trackers down for 30 s", act=trackers_down(30), recovers_within=60),
    Fault(
        name="RabbitMQ: restarted",
        act=restart_broker,
        star=True,
        max_extra_runs=3 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="RabbitMQ: frozen for 20 s",
        act=freeze("rabbitmq", seconds=20),
        star=True,
        max_extra_runs=3 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="RabbitMQ: memory alarm for 20 s",
        act=block_memory(20),
        star=True,
    ),
    Fault(
        name="RabbitMQ: disk alarm for 20 s",
        act=alarm(("set_disk_free_limit", "100000GB"), ("set_disk_free_limit", "50MB"), seconds=20),
    ),
    Fault(
        name="outcomes and retries can't be published for 30 s",
        act=refuse_outcomes,
        star=True,
        max_extra_runs=3 * THREADS,
    ),
    Fault(
        name="RabbitMQ: restarted while jobs end, some with a cancel pending",
        act=restart_while_jobs_end,
        max_extra_runs=3 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="RabbitMQ: nothing is passed on when its delay is over, until a restart",
        act=stop_dead_lettering,
        max_extra_runs=3 * THREADS,
        recovers_within=30,
    ),
    Fault(name="the tracker's queue full for 20 s", act=fill_lifecycle, max_extra_runs=3 * THREADS),
    Fault(
        name="another team's queue on our exchange full for 20 s",
        act=listen_with_full_queue,
        star=True,
        max_refused=0,
        max_gap=2,
    ),
    Fault(
        name="work queue of others full, and their jobs wait",
        act=stop_elsewhere("refusals", limited),
        max_extra_runs=THREADS,
    ),
    Fault(
        name="work queue of others missing, and their jobs wait",
        act=stop_elsewhere("missing queue", missing),
        max_extra_runs=THREADS,
    ),
    Fault(name="a delay level deleted", act=delete_level, star=True, max_extra_runs=THREADS),
    Fault(name="binding of the tracker's queue removed for 5 s", act=unbind, may_miss_webhooks=True),
    Fault(name="permission to write revoked for 10 s", act=revoke, max_extra_runs=3 * THREADS),
    Fault(name="password rotated for 10 s", act=rotate_password, max_extra_runs=3 * THREADS),
    Fault(
        name="the tracker's queue deleted",
        act=delete_queue(lambda topology: topology.lifecycle.name),
        may_miss_webhooks=True,
    ),
    Fault(
        name="the processors' queue deleted",
        act=delete_queue(lambda topology: topology.work_queue_name("default")),
        may_lose=True,
        expires_in=20,
        only_quick_successes=True,
        max_extra_runs=3 * THREADS,
    ),
    Fault(
        name="the processors' queue purged",
        act=purge,
        recovers_within=30,
        may_lose=True,
        expires_in=20,
        only_quick_successes=True,
        max_extra_runs=3 * THREADS,
    ),
    Fault(
        name="handlers that kill their worker: two of them",
        act=misbehave("kill", seconds=10, restarts=True),
        star=True,
        first=("kill", "kill"),
        max_extra_runs=8 * 2 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="a handler that leaks until its process is killed",
        act=misbehave("leak", seconds=30, restarts=True),
        first=("leak",),
        max_extra_runs=8 * 2 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="handlers that stop the event loop: two of them",
        act=misbehave("stop-loop", seconds=10, restarts=True),
        first=("stop-loop", "stop-loop"),
        max_extra_runs=8 * 2 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="handlers that fork, spawn shells, close stderr, use task groups, swallow a cancel",
        act=run_odd_handlers,
        star=True,
    ),
    Fault(name="a new job type at one of three processors", act=add_type, star=True, max_extra_runs=THREADS),
    Fault(
        name="a new field of a job type, at the newest processor",
        act=add_field(newest_last=True),
        max_extra_runs=3 * THREADS,
        recovers_within=30,
    ),
    Fault(
        name="a new field of a job type, and an older processor starts last",
        act=add_field(newest_last=False),
        max_extra_runs=3 * THREADS,
        recovers_within=30,
    ),
    Fault(name="messages that nobody can read, among the others", act=spoil, star=True),
    Fault(
        name="20 % of the commands published again",
        act=repeat(0.2, COMMANDS, hold=10, seconds=10),
        star=True,
    ),
    Fault(
        name="20 % of the events published again, shuffled by 50",
        act=repeat(0.2, EVENTS, hold=50, seconds=10),
        star=True,
    ),
    Fault(name="Redis: kill -9 and restart", act=kill_redis, star=True),
    # The guarantee is 30 s for 10,000 jobs; the log has nearly as many by now.
    Fault(name="Redis: FLUSHALL", act=flush_redis, star=True, max_extra_runs=THREADS, recovers_within=30),
    Fault(
        name="Redis: an older snapshot restored, trackers running",
        act=restore_snapshot(trackers=True),
        max_extra_runs=THREADS,
        recovers_within=30,
    ),
    Fault(
        name="Redis: an older snapshot restored, trackers new",
        act=restore_snapshot(trackers=False),
        max_extra_runs=THREADS,
        recovers_within=30,
    ),
    Fault(name="Redis: frozen for 20 s", act=freeze("redis", seconds=20)),
    Fault(name="Redis: no memory left for 20 s", act=fill_redis),
    Fault(
        name="clock of a gateway 10 min ahead",
        act=wrong_clock("gateway", "+10m"),
        max_extra_runs=THREADS,
    ),
    Fault(
        name="clock of a processor 10 min behind",
        act=wrong_clock("processor", "-10m"),
        max_extra_runs=THREADS,
    ),
    Fault(name="clock of a tracker 10 min ahead", act=wrong_clock("tracker", "+10m")),
    Fault(name="500 silent sockets at each gateway", act=silent_sockets(500, seconds=15)),
    Fault(
        name="Redis frozen and RabbitMQ blocked, 10 times: memory",
        act=repeatedly(freeze("redis", seconds=2), block_memory(2), times=10),
        max_extra_runs=THREADS,
    ),
    Fault(
        name="all at once: two random faults at a time, for a minute",
        act=two_at_a_time,
        may_be_late=True,
        max_extra_runs=20 * THREADS,
        recovers_within=30,
    ),
)
