r"""Every Redis key and channel, who owns it and where it lies.

A job belongs to one of 256 logical shards; the hash tag `{s017}` keeps all keys of a shard in one slot of a Redis
Cluster, so that a batch of a shard is one Lua call.

| key                                        | type   | written by | holds                                             |
|--------------------------------------------|--------|------------|---------------------------------------------------|
| `<ns>:job:{sNNN}:<id>`                     | hash   | tracker    | document, version, sequence, cancel               |
| `<ns>:index:{sNNN}:*:*:<status>`           | zset   | tracker    | ids of all jobs of a status, by creation          |
| `<ns>:index:{sNNN}:<tenant>:<type\|*>:…`   | zset   | tracker    | … of a tenant, a type and a status, or of any     |
| `<ns>:index:{sNNN}:@<batch>:<status\|*>`   | zset   | tracker    | ids of a batch's jobs, by creation                |
| `<ns>:index:{sNNN}:<tenant>:dead`          | zset   | tracker    | ids of jobs that the broker gave up, by creation  |
| `<ns>:expiry:{sNNN}`                       | zset   | tracker    | ids by the time they may be forgotten             |
| `<ns>:deadline:{sNNN}`                     | zset   | tracker    | ids by the time somebody must have spoken of them |
| `<ns>:mark:{sNNN}`                         | string | tracker    | the watermark: missing or lower, writes were lost |
| `<ns>:claim:{sNNN}:<id>`                   | hash   | processor  | who runs the job                                  |
| `<ns>:webhooks:{sNNN}:<id>`                | list   | tracker    | what became of a job's webhooks, oldest first     |
| `<ns>:disabled:{fleet}:<hash>`             | string | tracker    | a callback URL that has answered 410              |
| `<ns>:tagged:<tenant>:#<tag>`              | zset   | tracker    | ids of jobs with a tag, by their last change      |
| `<ns>:waiting:{fleet}`                     | zset   | tracker    | webhooks in the delay ladder, by when they come   |
| `<ns>:type:{fleet}:<type>`                 | string | tracker    | an announced job type                             |
| `<ns>:types:{fleet}`                       | zset   | tracker    | the names of the types, by last announcement      |
| `<ns>:processor:{fleet}:<instance>`        | string | tracker    | a processor's last beat                           |
| `<ns>:processors:{fleet}`                  | zset   | tracker    | the instances, by last beat                       |
| `<ns>:poison:{fleet}:<key>`                | string | tracker    | a message that nobody could read                  |
| `<ns>:poisons:{fleet}`                     | zset   | tracker    | their keys, by the time they were given up        |
| `<ns>:replay:{fleet}`                      | string | tracker    | which tracker replays the log now                 |
| `<ns>:changes:{sNNN}`                      | channel| tracker    | `<id> <version> <status>` that changed or is gone |
| `<ns>:changes:<tenant>:#<tag>`             | channel| tracker    | ids of changed views of jobs with a tag           |
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

    def _in_fleet(self, what: str) -> str:
        return f"{self.namespace}:{what}:{{fleet}}"

    def job(self, job_id: str) -> str:
        return f"{self._in_shard('job', shard_of(job_id))}:{job_id}"

    def jobs_prefix(self, shard: int) -> str:
        """What `job()` puts before the id."""
        return f"{self._in_shard('job', shard)}:"

    def claim(self, job_id: str) -> str:
        return f"{self._in_shard('claim', shard_of(job_id))}:{job_id}"

    def webhooks(self, job_id: str) -> str:
        return f"{self._in_shard('webhooks', shard_of(job_id))}:{job_id}"

    def disabled(self, digest: str) -> str:
        """Name what says that a tenant's callback URL gets no more webhooks."""
        return f"{self._in_fleet('disabled')}:{digest}"

    def index(self, shard: int, *, tenant: str, type_name: str | None = None, status: str | None = None) -> str:
        return f"{self.index_prefix(shard)}{tenant}:{type_name or ANY}:{status or ANY}"

    def batch(self, shard: int, batch_id: str, status: str | None = None) -> str:
        return f"{self.index_prefix(shard)}@{batch_id}:{status or ANY}"

    def everybodys(self, shard: int, status: str) -> str:
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

    def mark(self, shard: int) -> str:
        """Name the shard's watermarks: `whole` is the `run_id` of the Redis server that has all of the shard."""
        return self._in_shard("mark", shard)

    def changes(self, shard: int) -> str:
        return self._in_shard("changes", shard)

    def tagged(self, tenant: str, tag: str) -> str:
        """Name the index of a tag, whatever the shards of its jobs: it is read as often as somebody follows it."""
        return f"{self.namespace}:tagged:{tenant}:#{tag}"

    def changes_of_tag(self, tenant: str, tag: str) -> str:
        return f"{self.namespace}:changes:{tenant}:#{tag}"

    def idempotency(self, digest: str) -> str:
        """Name what is kept of an Idempotency-Key; any shard will do."""
        return f"{self.namespace}:idempotency:{digest}"

    def type(self, name: str) -> str:
        return f"{self._in_fleet('type')}:{name}"

    @property
    def types(self) -> str:
        return self._in_fleet("types")

    def processor(self, instance: str) -> str:
        return f"{self._in_fleet('processor')}:{instance}"

    @property
    def processors(self) -> str:
        return self._in_fleet("processors")

    def poison(self, key: str) -> str:
        return f"{self._in_fleet('poison')}:{key}"

    @property
    def poisons(self) -> str:
        return self._in_fleet("poisons")

    @property
    def lookers(self) -> str:
        """Which Redis server each tracker has looked at last, and when."""
        return self._in_fleet("lookers")

    @property
    def waiting(self) -> str:
        return self._in_fleet("waiting")

    @property
    def replay(self) -> str:
        return self._in_fleet("replay")
