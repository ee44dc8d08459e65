from __future__ import annotations

import ssl

import psycopg

from sungrow_lib.demo.certificates import CertificateFiles

MAJOR = "SELECT current_setting('server_version_num')::int / 10000"


def test_a_database_is_empty_and_new_for_each_test(database: str, postgres_dsn: str) -> None:
    with psycopg.connect(database) as connection:
        tables = connection.execute(
            "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchone()
        assert tables == (0,)
        own = connection.execute("SELECT current_database()").fetchone()
    with psycopg.connect(postgres_dsn) as connection:
        assert connection.execute("SELECT current_database()").fetchone() != own


def test_every_engine_is_supported_utf8_and_commits_safely(any_database: str) -> None:
    with psycopg.connect(any_database) as connection:
        major = connection.execute(MAJOR).fetchone()
        assert major is not None
        assert major[0] >= 15
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert connection.execute("SELECT 'ü' < 'z', length('ü')").fetchone() == (False, 1)


def test_the_certificate_is_for_this_machine_and_the_key_is_private(tls_files: CertificateFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.cert, tls_files.key)
    assert tls_files.key.stat().st_mode & 0o777 == 0o600
    assert tls_files.key.parent.stat().st_mode & 0o777 == 0o700
    trusting = ssl.create_default_context(cafile=str(tls_files.ca))
    assert len(trusting.get_ca_certs()) == 1
