"""A real nginx and a real Apache over one folder of blobs, with http and https."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mirror_servers import Certificate, WebServer, apache_mirror, certificate, nginx_mirror
from tests.web.asking import LARGE, LEEK, NOBODY, D, keep


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    blobs = tmp_path_factory.mktemp("mirror") / "blobs"
    for data in (LEEK, LARGE, b""):
        keep(blobs, data)
    (blobs / ".soup-cdn").mkdir()
    (blobs / ".soup-cdn" / "state").write_text("the agent's own")
    (blobs / ".soup-cdn" / D).write_bytes(LARGE)
    (blobs / NOBODY[:3]).mkdir()
    (blobs / NOBODY[:3] / ("0" * 63 + "1")).symlink_to("/etc/passwd")
    return blobs


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def mirrors(
    tmp_path_factory: pytest.TempPathFactory, blobs: Path, authority: Certificate
) -> Iterator[dict[str, WebServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with (
        nginx_mirror(folder / "nginx", blobs, authority) as nginx,
        apache_mirror(folder / "apache", blobs, authority) as apache,
    ):
        yield {"nginx": nginx, "apache": apache}


@pytest.fixture(params=["nginx", "apache"])
def mirror(request: pytest.FixtureRequest, mirrors: dict[str, WebServer]) -> WebServer:
    return mirrors[request.param]
