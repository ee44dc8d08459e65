"""Settings that cannot work are refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from sungrow_lib.errors import ConfigurationError
from sungrow_lib.spool import DurableSpool
from sungrow_lib.upload import BatchUploader, UploadSettings

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("short_waits")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"server_url": "http://solar.example.org"}, "https://"),
        ({"server_url": "solar.example.org"}, "https://"),
        ({"server_url": "https://"}, "HOST"),
        ({"server_url": "https://me:secret@solar.example.org"}, "without user"),
        ({"server_url": "https://solar.example.org:port"}, "not an address"),
        ({"server_url": "https://bücher..example"}, "The host of server_url is no name"),
        ({"server_url": f"https://{'ü' * 70}.example"}, "The host of server_url is no name"),
        ({"server_url": "https://solar..example.org"}, "The host of server_url is no name"),
        ({"token": None}, "token_file"),
        ({"token": "a b"}, "token"),
        ({"token": "ä"}, "token"),
        ({"token": ""}, "token"),
        ({"batch_size": 0}, "batch_size"),
        ({"backlog_workers": 6}, "backlog_workers"),
        ({"upload_interval_s": 0}, "upload_interval_s"),
        ({"compression": "brotli"}, "compression"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], says: str) -> None:
    values: dict[str, object] = {"server_url": "https://solar.example.org", "token": "t"} | changes
    with pytest.raises(ConfigurationError, match=says):
        UploadSettings(**values)  # type: ignore[arg-type]  # wrong ones are the point


@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_useless_ca_file_is_named(spool: DurableSpool, tmp_path: Path, content: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if content is not None:
        ca_file.write_text(content)
    settings = UploadSettings(server_url="https://localhost", token="t", ca_file=ca_file)
    with pytest.raises(ConfigurationError, match=str(ca_file)):
        BatchUploader(spool, settings)
