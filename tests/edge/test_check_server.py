"""`sungrow-edge check` against the real server: it tells covered devices from others, and stores nothing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from sungrow_lib.demo.certificates import CertificateFiles
from sungrow_lib.demo.processes import wait_until
from sungrow_lib.demo.setup import ServerAddress, ServerCommands, free_ports
from sungrow_lib.demo.site import DEVICES, DemoSite
from sungrow_lib.errors import CredentialsRefusedError
from sungrow_lib.upload import UploadSettings
from sungrow_lib.upload.check import check_server
from sungrow_lib.wire import DeviceInfo
from tests.patience import PATIENCE_S


def test_the_real_server_is_asked_and_stores_nothing(
    tmp_path: Path, database: str, tls_files: CertificateFiles
) -> None:
    [port] = free_ports(1)
    commands = ServerCommands(DemoSite.in_folder(tmp_path, datetime.now(UTC)), database, tls_files, port)
    commands.migrate()
    token, reader = commands.make_tokens()
    address = ServerAddress(port, tls_files.ca, reader)
    covered = {device.device_id: DeviceInfo() for device in DEVICES}
    settings = UploadSettings(
        server_url=f"https://localhost:{port}", token=token, ca_file=tls_files.ca, devices=covered
    )
    with ExitStack() as stack:
        server = commands.start()
        stack.callback(server.stop, 60.0)
        wait_until("the server", address.is_healthy, timeout_s=PATIENCE_S, watched=[server])
        assert settings.server_url in anyio.run(check_server, settings)
        for refused, said in (
            (replace(settings, devices=covered | {"stranger": DeviceInfo()}), "the device stranger"),
            (replace(settings, token=reader), "refuses the token"),
        ):
            with pytest.raises(CredentialsRefusedError, match=said):
                anyio.run(check_server, refused)
        assert list(commands.export()) == []
