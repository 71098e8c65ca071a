"""Servers are started, shown, started again when they stop, and stopped with us."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx
import pytest

from taketurns.errors import EngineError, UsageError
from taketurns.integrations.launch.plan import VllmServer
from taketurns.integrations.launch.supervise import Supervisor

# Stands in for vLLM: `vllm serve WHAT --host H --port N`.
PROGRAM = """#!{python}
import http.server, os, subprocess, sys
what, host, port = sys.argv[2], sys.argv[4], int(sys.argv[6])
folder = os.environ["FOLDER"]
with open(os.path.join(folder, "starts"), "a") as file:
    file.write(what + "\\n")
print("loading", what, flush=True)
if what == "broken":
    sys.exit(3)
worker = subprocess.Popen(["sleep", "600"])
with open(os.path.join(folder, "worker"), "w") as file:
    file.write(str(worker.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(9)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *rest):
        pass
http.server.HTTPServer((host, port), Handler).serve_forever()
"""


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    path = tmp_path / "vllm"
    path.write_text(PROGRAM.format(python=sys.executable), encoding="utf-8")
    path.chmod(0o755)
    return path


def server(what: str, folder: Path) -> VllmServer:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    arguments = ("serve", what, "--host", "127.0.0.1", "--port", str(port))
    return VllmServer(what, f"http://127.0.0.1:{port}", arguments, {"FOLDER": str(folder)})


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123
            return file.read().split()[2] != "Z"
    except OSError:
        return False


async def test_a_server_that_stops_is_started_again_and_all_stop_with_us(
    vllm: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    one = server("good", tmp_path)
    supervisor = Supervisor([one], vllm, said.append, pause=0.05)
    running = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(60):
        await supervisor.ready()
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(f"{one.url}/die")
            await asyncio.sleep(0.5)
            await supervisor.ready()
    assert "good | loading good" in said
    assert "good is started again" in said
    worker = int((tmp_path / "worker").read_text())
    assert alive(worker)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert not alive(worker), "a worker of the server outlived it"
    assert (tmp_path / "starts").read_text() == "good\ngood\n"


async def test_a_server_that_cannot_be_kept_running_ends_all(vllm: Path, tmp_path: Path) -> None:
    said: list[str] = []
    servers = [server("good", tmp_path), server("broken", tmp_path)]
    with pytest.raises(ExceptionGroup) as told:
        await Supervisor(servers, vllm, said.append, pause=0.01).run()
    (error,) = told.value.exceptions
    assert isinstance(error, EngineError)
    assert "broken at " in str(error)
    assert said.count("broken | loading broken") == 4
    assert not alive(int((tmp_path / "worker").read_text()))


async def test_without_vllm_the_cure_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(ExceptionGroup) as told:
        await Supervisor([server("good", tmp_path)], gone, lambda line: None).run()
    (error,) = told.value.exceptions
    assert isinstance(error, UsageError)
    assert "install vLLM, or give --vllm its path" in str(error)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells a child of this")
async def test_a_killed_supervisor_leaves_no_server(vllm: Path, tmp_path: Path) -> None:
    one = server("good", tmp_path)
    program = (
        "import asyncio; from taketurns.integrations.launch.plan import VllmServer; "
        "from taketurns.integrations.launch.supervise import Supervisor; "
        f"server = VllmServer('good', {one.url!r}, {one.arguments!r}, {dict(one.environment)!r}); "
        f"asyncio.run(Supervisor([server], {str(vllm)!r}, print).run())"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    async with asyncio.timeout(120):
        await Supervisor([one], vllm, print).ready()
        process.kill()
        await process.wait()
        async with httpx.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"{one.url}/health")
                except httpx.HTTPError:
                    break
                await asyncio.sleep(0.1)


async def test_a_replica_of_ray_is_well_as_long_as_its_server(vllm: Path, tmp_path: Path) -> None:
    """Ray replaces a replica that is not."""
    pytest.importorskip("ray.serve")
    from taketurns.integrations.launch.ray_serve import VllmReplica

    planned = server("good", tmp_path)
    replica = VllmReplica.__new__(VllmReplica)
    async with asyncio.timeout(120):
        await replica.__init__(planned, str(vllm))  # type: ignore[misc]
        url = await replica.url()
        assert url != planned.url
        await replica.check_health()
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.HTTPError):
                await client.get(f"{url}/die")
        with pytest.raises((httpx.HTTPError, ExceptionGroup)):
            await replica.check_health()
        await replica.end()
    assert (tmp_path / "starts").read_text() == "good\n"
    assert not alive(int((tmp_path / "worker").read_text()))
    broken = VllmReplica.__new__(VllmReplica)
    with pytest.raises(ExceptionGroup):
        await broken.__init__(server("broken", tmp_path), str(vllm))  # type: ignore[misc]
