"""Mirrors' web servers: a real nginx and a real Apache with the files that soup ships.

Only ports, addresses, folders and certificates are others: what the heads of the files say to adapt.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import program
from tests.databases import free_port
from tests.wire import until

ROOT = Path(__file__).parent.parent
MODULES = Path("/usr/lib/apache2/modules")
# What Debian's Apache has loaded before anybody asks for more, then what README tells to enable.
STOCK = "mpm_event authz_core authz_host alias autoindex deflate dir env filter mime negotiation setenvif"
ENABLED = "headers rewrite"
# How an agent that runs one tells it to end, and to read its files anew.
SIGNALS = {"nginx": {}, "apache": {"beside_stop": "WINCH", "beside_reload": "USR1"}}


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and key, and the authority that clients have to trust."""

    file: Path
    key: Path
    authority: Path


def certificate(folder: Path, *names: str) -> Certificate:
    """A certificate for these hosts, localhost, and 127.0.0.1 to 127.0.0.9, by a private authority.

    Certificates made in the same folder are of the same authority.
    """
    folder.mkdir(parents=True, exist_ok=True)
    authority, authority_key = folder / "authority.crt", folder / "authority.key"
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
    if not authority.exists():
        _openssl(
            "req", "-x509", *new_key, authority_key, "-out", authority, "-days", 7, "-subj", "/CN=soup test"
        )
    name = (names or ("localhost",))[0]
    file, key, request, more = (folder / f"{name}.{end}" for end in ("crt", "key", "csr", "ext"))
    hosts = [f"DNS:{name}" for name in ("localhost", *names)] + [
        f"IP:127.0.0.{last}" for last in range(1, 10)
    ]
    more.write_text(f"subjectAltName={','.join(hosts)}\n")
    _openssl("req", *new_key, key, "-out", request, "-subj", f"/CN={name}")
    signed = ("-CA", authority, "-CAkey", authority_key, "-CAcreateserial", "-days", 7, "-extfile", more)
    _openssl("x509", "-req", "-in", request, *signed, "-out", file)
    return Certificate(file, key, authority)


def _openssl(*words: object) -> None:
    subprocess.run([program("openssl"), *map(str, words)], check=True, capture_output=True)


@dataclass
class WebServer:
    """A web server that can be stopped, killed and started again; it comes back at the same address.

    `url` is https where there is a certificate; `plain` is always http.
    """

    kind: str
    command: list[str | Path]
    folder: Path
    address: str
    plain_port: int
    tls_port: int | None = None
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def port(self) -> int:
        return self.tls_port or self.plain_port

    @property
    def plain(self) -> str:
        return f"http://{self.address}:{self.plain_port}"

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.tls_port}" if self.tls_port else self.plain

    @property
    def log(self) -> Path:
        """The access log."""
        return self.folder / "access.log"

    def start(self) -> None:
        """Returns when it listens."""
        self.process = subprocess.Popen(self.command, cwd=self.folder, process_group=0)
        until(lambda: self.process.poll() is not None or self._listens())
        assert self.process.poll() is None, (self.folder / "error.log").read_text()

    def stop(self) -> None:
        """At once: connections are cut."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(15)

    def kill(self) -> None:
        """With all its children, as when a machine dies."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(15)

    def reopen(self) -> None:
        """Go on in a log file of the old name: what logrotate has said after it renamed one."""
        self.process.send_signal(signal.SIGUSR1)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.address, self.port)) == 0


@contextmanager
def _running(server: WebServer) -> Iterator[WebServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


def adapted(file: Path, changes: dict[str, str]) -> str:
    """A shipped file with these words replaced; all of them must be in it."""
    text = file.read_text()
    for old, new in changes.items():
        assert old in text, f"{file} does not say {old!r}"
        text = text.replace(old, new)
    return text


def _certified(tls: Certificate) -> dict[str, str]:
    """What both shipped files for https say to adapt."""
    live = "/etc/letsencrypt/live/mirror.example"
    return {f"{live}/fullchain.pem": str(tls.file), f"{live}/privkey.pem": str(tls.key)}


@contextmanager
def nginx_mirror(
    folder: Path,
    blobs: Path,
    tls: Certificate | None = None,
    address: str = "127.0.0.1",
    port: int | None = None,
    pull: str | None = None,
) -> Iterator[WebServer]:
    """nginx/mirror.conf in an nginx like Debian's, with a certificate mirror-tls.conf too.

    `port` is where it speaks http, `pull` where the agent of a mirror in mode pull listens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    server = WebServer("nginx", [], folder, address, port or free_port(), free_port() if tls else None)
    mirror = {
        "listen 80;": f"listen {address}:{server.plain_port};",
        "/data/blobs": str(blobs),
        "/var/log/nginx": str(folder),
    }
    (folder / "mirror.conf").write_text(adapted(ROOT / "nginx/mirror.conf", mirror))
    if tls:
        changes = {
            "listen 443 ssl;": f"listen {address}:{server.tls_port} ssl;",
            **_certified(tls),
        }
        (folder / "soup-mirror").mkdir(exist_ok=True)
        (folder / "soup-mirror" / "tls.conf").write_text(adapted(ROOT / "nginx/mirror-tls.conf", changes))
    if pull:
        (folder / "soup-mirror").mkdir(exist_ok=True)
        passed = adapted(ROOT / "nginx/mirror-pull.conf", {"127.0.0.1:9481": pull})
        (folder / "soup-mirror" / "pull.conf").write_text(passed)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""  # pytest's folders are its own
    conf = folder / "nginx.conf"
    conf.write_text(
        f"{user}daemon off;\nworker_processes 2;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{ worker_connections 768; }}\nhttp {{\n{temporary}"
        "include /etc/nginx/mime.types;\ndefault_type application/octet-stream;\n"
        f"access_log {folder}/other.log;\ngzip on;\ngzip_types *;\ninclude {folder}/mirror.conf;\n}}\n"
    )
    server.command = [program("nginx"), "-e", f"{folder}/error.log", "-c", conf, "-p", folder]
    with _running(server):
        yield server


@contextmanager
def apache_mirror(
    folder: Path,
    blobs: Path,
    tls: Certificate | None = None,
    address: str = "127.0.0.1",
    port: int | None = None,
    pull: str | None = None,
) -> Iterator[WebServer]:
    """apache/mirror.conf in an Apache like Debian's, with a certificate mirror-tls.conf too."""
    folder.mkdir(parents=True, exist_ok=True)
    server = WebServer("apache", [], folder, address, port or free_port(), free_port() if tls else None)
    (folder / "healthz").mkdir(exist_ok=True)
    (folder / "healthz" / "ok").write_text("ok\n")
    shared = {"/data/blobs": str(blobs), "/srv/healthz": f"{folder}/healthz"}
    (folder / "soup-mirror.inc").write_text(adapted(ROOT / "apache/soup-mirror.inc", shared))
    plain = {"<VirtualHost *:80>": f"<VirtualHost {address}:{server.plain_port}>"}
    sites, listeners = adapted(ROOT / "apache/mirror.conf", plain), [server.plain_port]
    modules = f"{STOCK} {ENABLED}"
    if tls:
        changes = {
            "<VirtualHost *:443>": f"<VirtualHost {address}:{server.tls_port}>",
            **_certified(tls),
        }
        sites += adapted(ROOT / "apache/mirror-tls.conf", changes)
        listeners.append(server.port)
        modules += " socache_shmcb ssl"
    if pull:
        (folder / "soup-mirror").mkdir(exist_ok=True)
        changes = {"/data/blobs": str(blobs), "127.0.0.1:9481": pull}
        (folder / "soup-mirror" / "pull.inc").write_text(adapted(ROOT / "apache/mirror-pull.inc", changes))
        modules += " proxy proxy_http"
    conf = folder / "apache.conf"
    conf.write_text(
        f"ServerRoot {folder}\nDefaultRuntimeDir {folder}\nPidFile {folder}/pid\nServerName localhost\n"
        + "".join(f"Listen {address}:{listener}\n" for listener in listeners)
        + "".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so\n" for name in modules.split())
        + f"ErrorLog {folder}/error.log\nDefine APACHE_LOG_DIR {folder}\nTypesConfig /etc/mime.types\n"
        "AddOutputFilterByType DEFLATE application/octet-stream\n"
        "<Directory />\nOptions FollowSymLinks\nAllowOverride None\nRequire all denied\n</Directory>\n"
        + sites
    )
    # Apache refuses to be root. As nobody it may read pytest's folders, which are root's own, all the same.
    all_files = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    nobody = [program("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups", *all_files]
    other = nobody if os.geteuid() == 0 else []
    server.command = [*other, program("apache2"), "-f", conf, "-D", "FOREGROUND"]
    with _running(server):
        yield server
