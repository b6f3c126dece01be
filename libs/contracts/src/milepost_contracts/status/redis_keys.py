r"""Every Redis key and channel, with its one writer.

A job belongs to one of 256 logical shards. The hash tag `{s017}` keeps all keys of a shard in one slot of a Redis
Cluster, so a batch of a shard is one Lua call. Most other keys have the tag `{shared}`; the keys
of tags and of Idempotency-Keys have none.

| key                                      | type    | writer    | holds                                               |
|------------------------------------------|---------|-----------|-----------------------------------------------------|
| `<ns>:job:{sNNN}:<id>`                   | hash    | tracker   | document, version, sequence, cancel, history        |
| `<ns>:index:{sNNN}:*:*:<status>`         | zset    | tracker   | ids of all jobs of a status, by creation            |
| `<ns>:index:{sNNN}:<tenant>:<type\|*>:…` | zset    | tracker   | … of a tenant, a type and a status, or of any       |
| `<ns>:index:{sNNN}:@<batch>:<status\|*>` | zset    | tracker   | ids of a batch's jobs, by creation                  |
| `<ns>:index:{sNNN}:<tenant>:dead`        | zset    | tracker   | ids of dead-lettered jobs, by creation              |
| `<ns>:expiry:{sNNN}`                     | zset    | tracker   | ids, by the time at which they may be swept         |
| `<ns>:deadline:{sNNN}`                   | zset    | tracker   | ids, by the time until which an event must arrive   |
| `<ns>:checkpoint:{sNNN}`                 | hash    | tracker   | of each tracker; a lower one means lost writes      |
| `<ns>:claim:{sNNN}:<id>`                 | hash    | processor | who runs the job, its outcome until it is confirmed |
| `<ns>:webhooks:{sNNN}:<id>`              | list    | tracker   | deliveries of a job's webhooks, oldest first        |
| `<ns>:tagged:<tenant>:#<tag>`            | zset    | tracker   | ids of jobs with a tag, by their last change        |
| `<ns>:unfinished:<tenant>:#<tag>`        | zset    | tracker   | … that have not ended                               |
| `<ns>:idempotency:<hash>`                | string  | gateway   | what an Idempotency-Key was used for                |
| `<ns>:disabled:{shared}:<hash>`          | string  | tracker   | a callback URL that has answered 410                |
| `<ns>:waiting:{shared}`                  | zset    | tracker   | webhooks in the delay levels, by their time         |
| `<ns>:type:{shared}:<type>`              | string  | tracker   | an announced job type                               |
| `<ns>:type-versions:{shared}:<type>`     | hash    | tracker   | its versions, and which processors announce them    |
| `<ns>:types:{shared}`                    | zset    | tracker   | the names of the types, by last announcement        |
| `<ns>:processor:{shared}:<instance>`     | string  | tracker   | a processor's last heartbeat                        |
| `<ns>:processors:{shared}`               | zset    | tracker   | the instances, by last heartbeat                    |
| `<ns>:recorded-since:{shared}`           | string  | tracker   | since when heartbeats are recorded without a gap    |
| `<ns>:types-since:{shared}`              | string  | tracker   | since when types are recorded on this Redis         |
| `<ns>:poison:{shared}:<key>`             | string  | tracker   | the record of an unreadable message                 |
| `<ns>:poisons:{shared}`                  | zset    | tracker   | the keys of those records, by time                  |
| `<ns>:replay:{shared}`                   | string  | tracker   | which tracker replays the log now                   |
| `<ns>:trackers:{shared}`                 | hash    | tracker   | the Redis server that each tracker checked last     |
| `<ns>:changes:{sNNN}`                    | channel | tracker   | `<id> <version> <status>` of a changed job          |
| `<ns>:changes:<tenant>:#<tag>`           | channel | tracker   | ids of changed jobs with a tag                      |
| `<ns>`                                   | channel | nobody    | gateways subscribe to it, to be connected           |
"""

import zlib
from dataclasses import dataclass

SHARDS = 256
ANY = "*"
"""Stands for every tenant, type or status in the name of an index."""


def shard_of(job_id: str) -> int:
    """The logical shard of a job: 0 to 255, spread evenly."""
    return zlib.crc32(job_id.encode()) % SHARDS


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of one deployment."""

    namespace: str = "milepost"

    def _in_shard(self, what: str, shard: int) -> str:
        return f"{self.namespace}:{what}:{{s{shard:03d}}}"

    def _shared(self, what: str) -> str:
        return f"{self.namespace}:{what}:{{shared}}"

    def job(self, job_id: str) -> str:
        return f"{self._in_shard('job', shard_of(job_id))}:{job_id}"

    def jobs_prefix(self, shard: int) -> str:
        """Return the part of `job()` before the id."""
        return f"{self._in_shard('job', shard)}:"

    def claim(self, job_id: str) -> str:
        return f"{self._in_shard('claim', shard_of(job_id))}:{job_id}"

    def webhooks(self, job_id: str) -> str:
        return f"{self._in_shard('webhooks', shard_of(job_id))}:{job_id}"

    def disabled(self, digest: str) -> str:
        """Name the mark of a callback URL that gets no more webhooks."""
        return f"{self._shared('disabled')}:{digest}"

    def index(self, shard: int, *, tenant: str, type_name: str | None = None, status: str | None = None) -> str:
        return f"{self.index_prefix(shard)}{tenant}:{type_name or ANY}:{status or ANY}"

    def batch(self, shard: int, batch_id: str, status: str | None = None) -> str:
        return f"{self.index_prefix(shard)}@{batch_id}:{status or ANY}"

    def all_tenants(self, shard: int, status: str) -> str:
        """Name the index of all tenants' jobs of a status."""
        return self.index(shard, tenant=ANY, status=status)

    def index_prefix(self, shard: int) -> str:
        return f"{self._in_shard('index', shard)}:"

    def expiry(self, shard: int) -> str:
        return self._in_shard("expiry", shard)

    def deadline(self, shard: int) -> str:
        return self._in_shard("deadline", shard)

    def dead(self, shard: int, *, tenant: str) -> str:
        return f"{self.index_prefix(shard)}{tenant}:dead"

    def checkpoint(self, shard: int) -> str:
        """Name the hash of a shard's checkpoints: `complete` is the `run_id` of the server that has all its writes."""
        return self._in_shard("checkpoint", shard)

    def changes(self, shard: int) -> str:
        return self._in_shard("changes", shard)

    def tagged(self, tenant: str, tag: str) -> str:
        """Name the index of a tag. It covers all shards, because tag streams read it often."""
        return f"{self.namespace}:tagged:{tenant}:#{tag}"

    def unfinished(self, tenant: str, tag: str) -> str:
        """Name the index of the jobs with a tag that have not ended."""
        return f"{self.namespace}:unfinished:{tenant}:#{tag}"

    def changes_of_tag(self, tenant: str, tag: str) -> str:
        return f"{self.namespace}:changes:{tenant}:#{tag}"

    def idempotency(self, digest: str) -> str:
        """Name the record of an Idempotency-Key. It belongs to no shard."""
        return f"{self.namespace}:idempotency:{digest}"

    def type(self, name: str) -> str:
        return f"{self._shared('type')}:{name}"

    def type_versions(self, name: str) -> str:
        return f"{self._shared('type-versions')}:{name}"

    @property
    def types(self) -> str:
        return self._shared("types")

    def processor(self, instance: str) -> str:
        return f"{self._shared('processor')}:{instance}"

    @property
    def processors(self) -> str:
        return self._shared("processors")

    @property
    def recorded_since(self) -> str:
        return self._shared("recorded-since")

    @property
    def types_since(self) -> str:
        return self._shared("types-since")

    def poison(self, key: str) -> str:
        return f"{self._shared('poison')}:{key}"

    @property
    def poisons(self) -> str:
        return self._shared("poisons")

    @property
    def trackers(self) -> str:
        """Name the hash with the Redis server that each tracker has checked last, and when."""
        return self._shared("trackers")

    @property
    def waiting(self) -> str:
        return self._shared("waiting")

    @property
    def replay(self) -> str:
        return self._shared("replay")
