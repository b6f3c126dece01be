"""The containers that we ship have no more rights, memory or secrets than they need."""

import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
DOCKERFILES = sorted(ROOT.glob("services/*/Dockerfile"))
BUILT = sorted(name for name, service in SERVICES.items() if "build" in service)
EXACT_TAG = re.compile(r"\w+:\d+\.\d+(-\w+)*")
DIGEST = f"sha256:{'5' * 64}"

every_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
every_dockerfile = pytest.mark.parametrize("text", [p.read_text() for p in DOCKERFILES], ids=lambda text: text[:0])


def final_stage(text):
    return text.rpartition("\nFROM ")[2]


@every_service
def test_a_container_gains_no_rights(service):
    """Its files are read-only, and neither it nor what it starts has a capability."""
    assert service["read_only"] is True
    assert ["ALL"] == service["cap_drop"]
    assert ["no-new-privileges:true"] == service["security_opt"]
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & set(service)


@every_service
def test_a_container_is_limited(service):
    """In memory, processes and processors: one that goes wild stops no other."""
    assert {"mem_limit", "pids_limit", "cpus"} <= set(service)


def test_a_full_server_refuses_before_it_is_killed():
    """RabbitMQ's alarm and Redis' maximum leave two fifths of the container's memory for everything else."""
    (alarm,) = re.findall(r"vm_memory_high_watermark.absolute = (\d+)MB", (ROOT / "deploy/rabbitmq.conf").read_text())
    (maximum,) = re.findall(r"--maxmemory (\d+)mb", " ".join(SERVICES["redis"]["command"]))
    assert ["1g", "1g"] == [SERVICES[name]["mem_limit"] for name in ("rabbitmq", "redis")]
    assert max(int(alarm), int(maximum)) <= 600


@every_service
def test_a_container_is_not_root(service):
    """Compose names the user of a public image; ours is in its Dockerfile, by number."""
    if "build" in service:
        text = (ROOT / service["build"]["dockerfile"]).read_text()
        assert ["10001:10001"] == re.findall(r"^USER (.*)", final_stage(text), re.MULTILINE)
    else:
        assert service["user"] not in {"root", "0"}


@every_service
def test_no_secret_is_in_a_command_line(service):
    """Everybody on a machine can read the command lines of all processes, those of health checks included."""
    words = [service.get("command", ""), service.get("entrypoint", ""), service.get("healthcheck", {}).get("test", "")]
    # '$$' is the container's own variable, which its shell replaces; '$' would be replaced by Compose, in the command.
    assert [] == re.findall(r"(?<!\$)\$(?!\$).*", str(words))
    assert [] == re.findall(r"--?(?:requirepass|a|pass|password)\b", str(words))


@every_service
def test_a_port_is_published_on_loopback_only(service):
    """Whoever exposes Milepost to a network does it knowingly."""
    assert [] == [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]


@every_service
def test_an_image_is_pinned(service):
    """To an exact version, and to a digest where .env has one."""
    if "build" in service:
        assert service["build"]["args"]["PYTHON_IMAGE"] is None, "from .env, or the Dockerfile's own"
    else:
        _, tag = re.fullmatch(r"\$\{(\w+_IMAGE):-(.*)\}", service["image"]).groups()
        assert EXACT_TAG.fullmatch(tag)


@every_dockerfile
def test_a_dockerfile_builds_on_a_pinned_image_alone(text):
    """One image, for both stages, and no frontend from a registry."""
    (image,) = re.findall(r"^ARG PYTHON_IMAGE=(.*)", text, re.MULTILINE)
    assert EXACT_TAG.fullmatch(image)
    assert ["$PYTHON_IMAGE AS build", "$PYTHON_IMAGE"] == re.findall(r"^FROM (.*)", text, re.MULTILINE)
    assert "syntax=" not in text


@every_dockerfile
def test_an_image_has_what_the_lock_says_and_no_build_tools(text):
    """The lock has hashes; what builds stays in the first stage, and without a cache."""
    build, final = text.partition("\nFROM $PYTHON_IMAGE\n")[::2]
    assert "uv sync --locked --no-dev --no-editable --no-cache" in build
    assert re.search(r"pip install --no-cache-dir .*uv==[\d.]+", build)
    assert [] == re.findall(r"^RUN .*(?:pip|uv|apt|curl)\b", final, re.MULTILINE)
    assert ["--from=build /app /app"] == re.findall(r"^(?:COPY|ADD) (.*)", final, re.MULTILINE)


@pytest.mark.parametrize("service", ["gateway", "processor"])
def test_temporary_files_are_on_disk(service):
    """An upload of 1 GiB passes through a gateway whose memory is half of that; `/tmp` is memory."""
    text = final_stage((ROOT / "services" / service / "Dockerfile").read_text())
    assert re.search(r"^VOLUME .*/var/tmp$", text, re.MULTILINE)
    assert re.search(r"^ENV TMPDIR=/var/tmp ", text, re.MULTILINE)


@every_dockerfile
def test_an_image_says_what_it_is_and_whether_it_is_well(text):
    """Its labels, and its health check."""
    assert re.search(r'org\.opencontainers\.image\.title="milepost-\w+"', final_stage(text))
    assert "HEALTHCHECK" in final_stage(text)


def test_the_dockerfiles_are_alike():
    """Three services, one way to build them."""
    assert ["gateway", "processor", "tracker"] == [path.parent.name for path in DOCKERFILES]
    assert 1 == len({re.search("PYTHON_IMAGE=(.*)", path.read_text())[1] for path in DOCKERFILES})


def test_nothing_but_the_sources_is_sent_to_a_build():
    """Everything is left out, then named; so a new secret in the folder stays out by itself."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert "*" == lines[0]
    kept = {line for line in lines if line.startswith("!")}
    assert {"!LICENSE", "!handlers", "!libs", "!pyproject.toml", "!services", "!tools", "!uv.lock"} == kept
    assert {"**/.env*", "**/access*.json", "**/*.acl", "**/*.key", "**/*.pem"} <= set(lines[len(kept) :])


@pytest.fixture
def pin(tmp_path):
    """Return a function that runs deploy/pin-images in a copy, with a registry that answers so."""
    for name in ("docker-compose.yml", "deploy/pin-images", "services/gateway/Dockerfile"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".env").write_text("MILEPOST_REDIS_PASSWORD=secret\nREDIS_IMAGE=redis:7.0@sha256:old\n")

    def run(docker):
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{docker}\n")
        (tmp_path / "docker").chmod(0o700)
        done = subprocess.run(
            ["sh", "deploy/pin-images"],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            check=False,
            capture_output=True,
            text=True,
        )
        return done, tmp_path / ".env"

    return run


def test_images_are_pinned_by_the_digests_of_the_registry(pin):
    """Old pins go, secrets stay, and nobody else may read the file."""
    done, env = pin(f'[ "$1" = pull ] || echo "registry.example/image@{DIGEST}"')
    assert 0 == done.returncode, done.stderr
    secret, *pins = env.read_text().splitlines()
    assert "MILEPOST_REDIS_PASSWORD=secret" == secret
    assert ["PYTHON_IMAGE", "RABBITMQ_IMAGE", "REDIS_IMAGE"] == sorted(pin.partition("=")[0] for pin in pins)
    assert all(EXACT_TAG.match(pin.partition("=")[2]) and pin.endswith(f"@{DIGEST}") for pin in pins)
    assert 0o600 == stat.S_IMODE(env.stat().st_mode)


@pytest.mark.parametrize(
    "docker, said",
    [("echo 'registry.example: no route' >&2; exit 1", "can't be pulled"), ("exit 0", "has no digest for rabbitmq")],
)
def test_without_a_digest_nothing_is_pinned(pin, docker, said):
    """One sentence that names the image and no host; .env is as it was."""
    done, env = pin(docker)
    assert 1 == done.returncode
    assert said in done.stderr
    assert "registry.example" not in done.stderr
    assert "redis:7.0@sha256:old" in env.read_text()


def test_images_are_pinned_without_an_env_too(pin, tmp_path):
    """Compose needs none."""
    (tmp_path / ".env").unlink()
    done, env = pin(f'[ "$1" = pull ] || echo "registry.example/image@{DIGEST}"')
    assert (0, 3) == (done.returncode, len(env.read_text().splitlines()))
