"""A server in a box: started once, found again, stopped, killed, and told of when it fails."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.servers import services
from scripts.servers.box import Box
from scripts.servers.install import Tools
from scripts.servers.ports import any_free, is_free
from scripts.servers.process import Identity, gone, wait
from scripts.servers.trouble import Trouble
from tests.scripts.fake import Fake

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server() -> Fake:
    return Fake(usual=any_free())


@pytest.fixture
def box(server: Fake, tmp_path: Path) -> Iterator[Box]:
    box = Box(server, tmp_path / "fake", Tools(tmp_path / "tools"))
    yield box
    box.kill()


def child_of(box: Box) -> Identity | None:
    return Identity.of(int(box.log.read_text().split()[1]))


def test_starting_waits_until_it_answers(box: Box, server: Fake) -> None:
    """After `start` the server answers on its usual port, and starting again is no news."""
    assert box.start() is True
    assert box.ready()
    assert box.url.startswith(f"fake://127.0.0.1:{server.PORTS['main']}")
    assert box.start() is False
    assert server.installed == 1


def test_stopping_ends_the_whole_family(box: Box) -> None:
    """`stop` leaves no process behind, and stopping again is no news."""
    box.start()
    head, child = box.running(), child_of(box)
    assert head is not None
    assert child is not None
    assert box.stop() is True
    assert gone([head, child], seconds=0)
    assert box.stop() is False


def test_port_is_kept_over_kill_and_start(box: Box) -> None:
    """A killed server comes back where its clients look for it."""
    box.start()
    url, child = box.url, child_of(box)
    box.kill()
    assert not box.ready()
    assert child is not None
    assert not child.alive()
    box.start()
    assert box.url == url


def test_taken_port_is_not_fought_for(box: Box, server: Fake) -> None:
    """Where somebody listens on the usual port another one is picked, and remembered."""
    with socket.create_server(("127.0.0.1", server.PORTS["main"])):
        box.start()
        picked = box.port
        assert picked != server.PORTS["main"]
    box.stop()
    box.start()
    assert box.port == picked


def test_two_starts_at_once_start_one(box: Box, server: Fake) -> None:
    """Of two that start it at the same time one does, and both find it ready."""
    boxes = [box, Box(server, box.folder, box.tools)]
    with ThreadPoolExecutor(2) as pool:
        news = list(pool.map(Box.start, boxes))
    assert sorted(news) == [False, True]
    assert all(each.ready() for each in boxes)
    for each in boxes:
        each.kill()


def test_paused_server_does_not_answer(box: Box) -> None:
    """A paused server accepts and says nothing; resumed it goes on; paused it can still be stopped."""
    box.start()
    box.pause()
    assert not box.ready()
    box.resume()
    assert box.ready()
    box.pause()
    assert box.stop()


def test_failing_start_tells_why_and_what_next(tmp_path: Path) -> None:
    """A server that ends while starting is told of with the end of its log and a next step."""
    box = Box(Fake(last_words="the disk is full"), tmp_path / "fake", Tools(tmp_path / "tools"))
    with pytest.raises(Trouble) as caught:
        box.start()
    assert "Fake ended while it was starting" in caught.value.what
    assert caught.value.tail == ["the disk is full"]
    assert str(box.log) in str(caught.value)
    assert "scripts/services restart fake" in caught.value.remedy


def test_program_that_cannot_be_run_is_trouble(box: Box, server: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is told of like any failure, and leaves nothing behind."""
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    with pytest.raises(Trouble, match="could not be run"):
        box.start()
    assert box.running() is None


def test_reused_process_id_is_somebody_else(box: Box) -> None:
    """A pid file that names a process which began at another time names nobody, who is not killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        living = Identity.of(stranger.pid)
        assert living is not None
        box.folder.mkdir(parents=True)
        Identity(living.pid, living.began - 1).write(box.folder / "pid")
        assert box.running() is None
        assert box.stop() is False
        assert stranger.poll() is None
        stranger.kill()


def test_deleting_forgets_everything(box: Box) -> None:
    """`delete` stops the server and leaves no file."""
    box.start()
    port = box.port
    box.delete()
    assert is_free(port)
    assert not box.folder.exists()


def test_private_server_is_gone_afterwards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A private server has a port and password of its own, and leaves neither process nor file."""
    monkeypatch.setenv("EDOW_SERVICES", str(tmp_path))
    with services.private(Fake(), password="s3cret") as mine, services.private(Fake()) as other:
        assert mine.password == "s3cret"
        assert mine.port != other.port
        assert mine.ready()
        assert other.ready()
    assert not mine.folder.exists()
    assert is_free(mine.port)


def test_abandoned_private_server_is_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A private server whose test run was killed is ended by `sweep`; one whose owner lives is left alone."""
    monkeypatch.setenv("EDOW_SERVICES", str(tmp_path))
    monkeypatch.setattr(services, "SERVERS", {"fake": Fake()})
    command = [sys.executable, "-m", "tests.scripts.fake_owner"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        orphan = Identity.of(int(owner.stdout.readline()))
        assert orphan is not None
        assert services.sweep() == 0
        owner.send_signal(signal.SIGKILL)
    assert wait(lambda: owner.poll() is not None, seconds=10)
    assert orphan.alive()
    assert services.sweep() == 1
    assert not orphan.alive()
    assert services.sweep() == 0
