"""The embedded S3 store answers nobody without keys: another user of the machine, a web page, SeaweedFS's own tools."""

import asyncio
import json
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runfold_stack.embedded import RunningStack, embedded_stack
from runfold_stack.embedded.s3 import S3Place, program, sockets
from tests.support.browser.browser import in_browser
from tests.support.services.other_user import as_other_user
from tests.support.services.running import in_thread

BUCKET, NAME, BYTES = "hidden-bucket", "hidden-name.txt", b"hidden bytes"
TOLD = (BUCKET, NAME, BYTES.decode(), "fid", "Topology", "Volumes")
"""What no answer to a stranger may hold: names, bytes, and the inner workings that lead to them."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Place]:
    """A store that holds one object."""

    async def serve(ready: Callable[[S3Place], Coroutine[Any, Any, None]]) -> None:
        directory = tmp_path_factory.mktemp("closed")
        async with embedded_stack(directory, kafka=False, postgres=False) as stack:
            place = stack.endpoints.s3
            assert place is not None
            async with owner(place) as s3:
                await s3.create_bucket(Bucket=BUCKET)
                await s3.put_object(Bucket=BUCKET, Key=NAME, Body=BYTES)
            await all_listening(stack, place)
            await ready(place)

    with in_thread(serve) as place:
        yield place


@asynccontextmanager
async def owner(place: S3Place) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    async with get_session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=place.endpoint,
        aws_access_key_id=place.keys.access_key,
        aws_secret_access_key=place.keys.secret_key,
        config=AioConfig(signature_version="s3v4", request_checksum_calculation="when_required"),
    ) as client:
        yield client


async def all_listening(stack: RunningStack, place: S3Place) -> None:
    for port in place.ports.values():
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    break


async def untouched(place: S3Place) -> None:
    """Fail unless the object is as it was and the only one."""
    async with owner(place) as s3:
        answer = await s3.get_object(Bucket=BUCKET, Key=NAME)
        assert await answer["Body"].read() == BYTES
        listed = await s3.list_objects_v2(Bucket=BUCKET)
        assert [found["Key"] for found in listed["Contents"]] == [NAME]


ASK_BY_HTTP = """
import json, ssl, sys, urllib.error, urllib.request
ports, bucket, name = json.loads(sys.argv[1])
blind = ssl._create_unverified_context()
paths = {
    "GET": ["/", "/?pretty=y", f"/buckets/{bucket}/", f"/buckets/{bucket}/{name}", f"/{bucket}", f"/{bucket}/{name}",
            "/dir/assign", "/dir/status", "/dir/lookup?volumeId=1", "/dir/lookup?fileId=1,01&read=yes", "/vol/status",
            "/cluster/status", "/status", "/metrics", "/ui/index.html", "/stats/disk", "/debug/pprof/", "/1,01",
            f"/col/delete?collection={bucket}", "/vol/grow?count=1", "/admin/login", "/api/config"],
    "PUT": [f"/buckets/{bucket}/{name}", f"/{bucket}/{name}", "/1,01"],
    "POST": [f"/buckets/{bucket}/{name}", "/submit", f"/{bucket}/{name}", "/?Action=ListUsers&Version=2010-05-08",
             "/?Action=CreateAccessKey&Version=2010-05-08", "/?Action=GetCallerIdentity&Version=2011-06-15"],
    "DELETE": [
        f"/buckets/{bucket}/{name}", f"/buckets/{bucket}/?recursive=true", f"/{bucket}/{name}", f"/{bucket}", "/1,01",
    ],
}
def body_of(answer):
    try:
        return answer.read(2000).decode("latin1")
    except OSError:  # it refused before it took the body, and closed
        return ""
told = []
for port in ports:
    for scheme in ("http", "https"):
        for method, each in paths.items():
            for path in each:
                body = b"mine" if method in ("PUT", "POST") else None
                request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}", body, method=method)
                try:
                    with urllib.request.urlopen(request, timeout=5, context=blind) as answer:
                        told.append([port, scheme, method, path, answer.status, body_of(answer), dict(answer.headers)])
                except urllib.error.HTTPError as error:
                    told.append([port, scheme, method, path, error.code, body_of(error), dict(error.headers)])
                except OSError as error:
                    told.append([port, scheme, method, path, 0, "", {}])
print(json.dumps(told))
"""


async def test_no_port_tells_or_does_anything_for_another_user_over_http(store: S3Place) -> None:
    asked = json.dumps([list(store.ports.values()), BUCKET, NAME])
    result = await asyncio.to_thread(as_other_user, ASK_BY_HTTP, asked, timeout=300)
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert len(answers) > 500
    s3 = store.ports["s3"]
    for port, scheme, method, path, status, body, headers in answers:
        where = f"{scheme}:{port} {method} {path} -> {status} {body[:200]}"
        if (port, scheme, method, path) == (s3, "http", "GET", "/status"):
            assert (status, body) == (200, ""), where  # that it runs, and nothing else
            continue
        assert status == 0 or status >= 400, where
        assert "Authorization" not in headers, where
        if port == s3:
            # Its errors repeat the path that was asked for.
            assert BYTES.decode() not in body, where
        else:
            assert not [word for word in TOLD if word in body], where
    await untouched(store)


ASK_BY_GRPC = """
import json, socket, ssl, sys
PREFACE = b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
def settings(connection):
    connection.settimeout(5)
    try:
        connection.sendall(PREFACE)
        return connection.recv(9)[3:4] == b"\\x04"
    except OSError:
        return False
def plain(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    made = socket.socket(family)
    made.settimeout(5)
    made.connect(address if isinstance(address, str) else ("127.0.0.1", address))
    return made
def tls(address):
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2"])
    return context.wrap_socket(plain(address))
answered = []
for address in json.loads(sys.argv[1]):
    for way in (plain, tls):
        try:
            with way(address) as connection:
                if settings(connection):
                    answered.append([address, way.__name__])
        except OSError:
            pass
print(json.dumps(answered))
"""


async def test_no_port_or_socket_speaks_grpc_with_another_user(store: S3Place) -> None:
    unix = [str(path) for path in [*sockets(store), store.directory / "filer.sock", store.directory / "s3.sock"]]
    addresses = [*store.ports.values(), *unix]
    result = await asyncio.to_thread(as_other_user, ASK_BY_GRPC, json.dumps(addresses), timeout=300)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == []


SHELL = """
import subprocess, sys
weed, directory, master, filer = sys.argv[1:]
commands = (
    "lock\\nfs.ls /buckets\\nfs.cat /buckets/hidden-bucket/hidden-name.txt\\nvolume.list\\ncluster.ps\\n"
    "s3.configure -user=me -access_key=mine -secret_key=mine -actions=Admin -apply\\ns3.bucket.list\\n"
)
with open(directory + "/told", "w+b") as told:
    child = subprocess.Popen([weed, "shell", "-master", master, "-filer", filer],
        stdin=subprocess.PIPE, stdout=told, stderr=told, cwd=directory)
    try:
        child.communicate(commands.encode(), timeout=12)
    except subprocess.TimeoutExpired:
        child.kill()
    told.seek(0)
    print(told.read().decode("latin1"))
"""


@pytest.fixture(scope="module")
def open_directory() -> Iterator[Path]:
    """A directory that another user may write to, with SeaweedFS's program in it."""
    directory = Path(tempfile.mkdtemp(prefix="runfold-shell-"))
    directory.chmod(0o777)
    shutil.copy(program(), directory / "weed")
    (directory / "weed").chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


async def test_the_stores_own_shell_gets_nothing_without_the_certificate(store: S3Place, open_directory: Path) -> None:
    ports = store.ports
    master = f"127.0.0.1:{ports['s3_master']}.{ports['s3_master_grpc']}"
    filer = f"127.0.0.1:{ports['s3_filer']}.{ports['s3_filer_grpc']}"
    arguments = (str(open_directory / "weed"), str(open_directory), master, filer)
    result = await asyncio.to_thread(as_other_user, SHELL, *arguments, timeout=120)
    assert result.returncode == 0, result.stderr
    assert BUCKET not in result.stdout.replace(f"/buckets/{BUCKET}", "")
    assert BYTES.decode() not in result.stdout
    assert "DataNode" not in result.stdout
    await untouched(store)
    # The same by the owner, from where the certificate lies, shows that the shell would have told it.
    shown = await asyncio.to_thread(
        lambda: subprocess.run(
            [program(), "shell", "-master", master, "-filer", filer],
            input=f"fs.ls /buckets\nfs.cat /buckets/{BUCKET}/{NAME}\n",
            cwd=store.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )
    )
    assert BUCKET in shown.stdout
    async with owner(store) as s3:
        users = await s3.list_buckets()
        assert [bucket["Name"] for bucket in users["Buckets"]] == [BUCKET]


BROWSE = """
const told = [];
for (const port of PORTS) {
  for (const scheme of ["http", "https"]) {
    for (const [method, path] of REQUESTS) {
      const url = `${scheme}://127.0.0.1:${port}${path}`;
      const body = method === "GET" ? undefined : "mine";
      try {
        const answer = await fetch(url, {method, body: method === "DELETE" ? undefined : body,
            signal: AbortSignal.timeout(4000)});
        told.push([port, method, path, answer.status, (await answer.text()).slice(0, 2000)]);
      } catch (error) {}
      try {
        await fetch(url, {method: method === "GET" ? "GET" : "POST", mode: "no-cors", body,
            signal: AbortSignal.timeout(4000)});
      } catch (error) {}
    }
  }
}
return told;
"""


async def test_a_web_page_reads_writes_and_deletes_nothing(store: S3Place) -> None:
    requests = [
        *(
            ("GET", path)
            for path in ("/", f"/buckets/{BUCKET}/", f"/buckets/{BUCKET}/{NAME}", "/dir/assign", "/status")
        ),
        *(("GET", path) for path in ("/dir/status", f"/{BUCKET}", f"/col/delete?collection={BUCKET}")),
        ("PUT", f"/buckets/{BUCKET}/{NAME}"),
        ("POST", f"/buckets/{BUCKET}/{NAME}"),
        ("POST", f"/buckets/{BUCKET}/second"),
        ("POST", "/submit"),
        ("DELETE", f"/buckets/{BUCKET}/{NAME}"),
        ("DELETE", f"/{BUCKET}/{NAME}"),
    ]
    script = BROWSE.replace("PORTS", json.dumps(list(store.ports.values()))).replace("REQUESTS", json.dumps(requests))
    for port, method, path, status, body in await asyncio.to_thread(in_browser, script, timeout=240):
        where = f"{port} {method} {path} -> {status} {body[:200]}"
        assert port == store.ports["s3"], where
        assert status >= 400 or (path, body) == ("/status", ""), where
        assert BYTES.decode() not in body, where
    await untouched(store)


def test_the_stores_keys_are_for_its_user_alone(store: S3Place) -> None:
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700
    for name in ("security.toml", "certificate.pem", "certificate.key"):
        assert stat.S_IMODE((store.directory / name).stat().st_mode) == 0o600
    # Nor do they show where every user may look.
    secret = (store.directory / "security.toml").read_text().split('key = "')[1][:32]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        assert secret.encode() not in command
    assert secret not in store.log.read_text(errors="replace")
