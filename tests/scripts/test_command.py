"""The command `scripts/services`, and what stands beside it: the compose file and the policy for tests."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from scripts.servers import command, kafka, redis, services
from scripts.servers.box import PASSWORD, Box
from scripts.servers.install import Tools
from scripts.servers.trouble import Trouble
from tests import servers
from tests.conformance.transports import url_of
from tests.scripts.fake import Fake

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "compose.yaml").read_text()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Box]:
    """The only server there is, in a folder of its own."""
    monkeypatch.setenv("EDOW_SERVICES", str(tmp_path))
    monkeypatch.setattr(services, "SERVERS", {"fake": Fake()})
    box = services.box("fake")
    yield box
    box.kill()


def test_env_is_for_a_shell(fake: Box, capsys: pytest.CaptureFixture[str]) -> None:
    """What `status --env` prints sets the variable in a shell, special characters and all."""
    fake.start()
    assert command.main(["status", "--env"]) == 0
    script = capsys.readouterr().out + 'printf %s "$EDOW_FAKE"'
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell.stdout == fake.url


def test_what_is_not_up_has_no_variable(fake: Box, capsys: pytest.CaptureFixture[str]) -> None:
    """`status` names what is down and how to start it; `--env` leaves it out; `--json` says so."""
    assert command.main(["status"]) == 0
    assert "scripts/services up fake" in capsys.readouterr().out
    command.main(["status", "--env"])
    assert capsys.readouterr().out == ""
    command.main(["status", "--json"])
    told = json.loads(capsys.readouterr().out)["fake"]
    assert (told["up"], told["url"], told["variable"]) == (False, None, "EDOW_FAKE")


def test_down_stops_and_says_so(fake: Box, capsys: pytest.CaptureFixture[str]) -> None:
    """`down` stops what is up, and does not mind what is not."""
    fake.start()
    assert command.main(["down", "fake"]) == 0
    assert command.main(["down"]) == 0
    assert [line.split(maxsplit=2)[2] for line in capsys.readouterr().out.splitlines()] == ["stopped", "was not up"]


def test_one_failure_fails_the_command(
    fake: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`up` ends with 1 if a server does not start, having shown the end of its log and what to do."""
    monkeypatch.setattr(services, "SERVERS", {"fake": Fake(last_words="no space left")})
    assert command.main(["up"]) == 1
    said = capsys.readouterr().out
    assert "| no space left" in said
    assert "Next:" in said
    command.main(["log"])
    assert "no space left" in capsys.readouterr().out


def test_unknown_name_is_told_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no server is an error that lists those there are."""
    assert command.main(["up", "mysql"]) == 2
    told = capsys.readouterr().err
    assert "'mysql'" in told
    assert "postgres, redis" in told


def test_script_runs_from_anywhere(tmp_path: Path) -> None:
    """The script itself finds its package whatever the current folder is."""
    shown = subprocess.run(
        [ROOT / "scripts" / "services", "status", "--json"],
        cwd=tmp_path,
        env=os.environ | {"EDOW_SERVICES": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(json.loads(shown.stdout)) == list(services.SERVERS)


def test_compose_offers_the_same_servers(tmp_path: Path) -> None:
    """compose.env has every variable as `status --env` has it on the usual ports, which compose.yaml publishes."""
    lines = [line for line in (ROOT / "compose.env").read_text().splitlines() if not line.startswith("#")]
    usual = {}
    for name, server in services.SERVERS.items():
        box = Box(server, tmp_path / name, Tools(tmp_path))
        (tmp_path / name).mkdir()
        (tmp_path / name / "box.json").write_text(json.dumps({"ports": dict(server.PORTS)}))
        usual[server.VARIABLE] = box.url
        assert f"\n  {name}:\n" in COMPOSE
        assert f"127.0.0.1:{server.PORTS['main']}:" in COMPOSE
    assert dict(line.split("=", 1) for line in lines) == usual
    assert PASSWORD in COMPOSE


def test_compose_has_the_pinned_versions() -> None:
    """What scripts/services pins, compose.yaml takes in the same version."""
    pins = "\n".join(file.read_text() for file in (ROOT / "scripts" / "servers" / "pins").iterdir())
    versions = re.findall(r"(nats)-server-bin==(\d+\.\d+)", pins) + re.findall(r"^(moto)==(\S+)", pins, re.MULTILINE)
    versions += re.findall(r"<artifactId>(kafka|elasticmq)[^<]*</artifactId>\s*<version>([\d.]{3,})</version>", pins)
    assert {name for name, _ in versions} == {"nats", "moto", "kafka", "elasticmq"}
    for name, version in versions:
        assert re.search(rf"image: \S*{name}\S*:{re.escape(version)}", COMPOSE), (name, version)


def test_compose_file_is_one() -> None:
    """By the schema of the Compose specification."""
    asked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    done = subprocess.run(asked, cwd=ROOT, env=servers.checkers(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_waits_for_every_server_and_tells_nobody_else() -> None:
    """Each has a health check, which `up --wait` waits for, and a port on this machine alone; mounts exist."""
    asked = yaml.safe_load(COMPOSE)
    for name, service in asked["services"].items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert [port.partition(":")[0] for port in service["ports"]] == ["127.0.0.1"], name
        assert {each["source"] for each in service.get("configs", [])} <= set(asked["configs"]), name
    assert [name for name, each in asked["configs"].items() if not (ROOT / each.get("file", "")).exists()] == []


def test_compose_has_the_settings_of_kafka() -> None:
    """Those of scripts/services, but for the listener that asks for a login."""
    told = yaml.safe_load(COMPOSE)["services"]["kafka"]["environment"]
    settings = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in kafka._SETTINGS.items()}
    settings.pop("KAFKA_LISTENER_NAME_LOGIN_SASL_ENABLED_MECHANISMS")
    settings["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"] = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"
    assert settings.items() <= told.items()


def test_installation_is_remembered_and_repeated_when_half_made(tmp_path: Path) -> None:
    """What is installed once is not installed again, and what failed half-way is."""
    tools, wanted, calls = Tools(tmp_path), tmp_path / "wanted", []

    def install(place: Path) -> None:
        (place / f"file-{len(calls)}").touch()
        calls.append(place)
        if len(calls) == 1:
            raise Trouble("the network is away")

    wanted.write_text("1.0")
    with pytest.raises(Trouble):
        tools.once("thing", [wanted], install)
    place = tools.once("thing", [wanted], install)
    assert tools.once("thing", [wanted], install) == place
    assert len(calls) == 2
    assert not (place / "file-0").exists()
    wanted.write_text("1.1")
    assert tools.once("thing", [wanted], install) != place


def test_server_is_skipped_on_a_laptop_and_required_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absent server skips a test with its remedy, and fails it where CI or EDOW_REQUIRE_SERVERS is set."""
    for name in ("EDOW_REDIS", "CI", "EDOW_REQUIRE_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pytest.skip.Exception, match="scripts/services up redis"):
        servers.server_url("EDOW_REDIS")
    for name, value in (("CI", "true"), ("EDOW_REQUIRE_SERVERS", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(pytest.fail.Exception, match="EDOW_REDIS is not set"):
                servers.server_url("EDOW_REDIS")
    monkeypatch.setenv("EDOW_REDIS", "redis://there")
    assert servers.server_url("EDOW_REDIS") == "redis://there"


def test_official_emulator_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where PUBSUB_EMULATOR_HOST is set, the tests of Pub/Sub run against that."""
    monkeypatch.setenv("EDOW_PUBSUB", "pubsub://edow?emulator=127.0.0.1:1")
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:2")
    assert servers.server_url("EDOW_PUBSUB") == "pubsub://edow?emulator=127.0.0.1:2"
    assert url_of("PUBSUB", tmp_path).startswith("pubsub://edow?emulator=127.0.0.1:2&prefix=")


def test_private_server_needs_the_checkouts_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A test installs nothing: without the checkout's own server of the kind a private one is skipped."""
    monkeypatch.setenv("EDOW_SERVICES", str(tmp_path))
    for name in ("CI", "EDOW_REQUIRE_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(pytest.skip.Exception, match="Redis is not up here"), servers.private_server(redis):
        pass


@pytest.mark.parametrize("name", services.SERVERS)
def test_server_answers_where_its_variable_says(name: str) -> None:
    """Every server that is up answers, and its URL names the port it answers on."""
    box = services.box(name)
    url = servers.server_url(box.server.VARIABLE)
    if url == box.url:
        assert box.ready()
