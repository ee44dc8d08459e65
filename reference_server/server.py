"""What one server process is made of, put together from its settings."""

from __future__ import annotations

import os
from asyncio import Event
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from reference_server.auth import Authenticator, Principal
from reference_server.config import ServerSettings, parse_device_tokens
from reference_server.ingest import Ingest
from reference_server.limits import Guard
from reference_server.live import LiveHub
from reference_server.metrics import SHARED_FOLDER, Metrics
from reference_server.parquet_process import ParquetFiles
from reference_server.plant_keeper import PlantKeeper
from reference_server.plant_series import PlantSeriesReader
from reference_server.realtime import LatestReadings
from reference_server.retention import Retention
from reference_server.rollups import RollupRefresher
from reference_server.room import Room
from reference_server.series import SeriesReader
from reference_server.shared_table import SharedTable
from reference_server.slow_bodies import SlowBodies
from reference_server.storage.arrivals import ArrivalChannel
from reference_server.storage.database import Database
from reference_server.storage.devices import Devices
from reference_server.storage.horizon import Horizon
from reference_server.together import TogetherReader
from reference_server.witnesses import MeterReader

Clock = Callable[[], datetime]


utc_now: Final[Clock] = partial(datetime.now, UTC)
"""Tells the time, UTC."""


@dataclass(frozen=True, slots=True)
class Server:
    """The parts that answer requests.

    Attributes:
        settings: how the server is set up.
        clock: tells the time, UTC.
        database: where everything is stored.
        devices: finds devices.
        horizon: tells up to when rollups are frozen.
        authenticator: tells who asks.
        ingest: takes batches.
        room: where large ones are while they are taken.
        slow_bodies: counts what has come of bodies that come slowly.
        latest: answers what a device shows now.
        refresher: keeps rollups fresh.
        series: answers series.
        plant_series: answers series of plants.
        plant_keeper: puts together what plants did before anybody asks.
        retention: drops raw readings that are too old.
        live: feeds open streams.
        guard: refuses who asks too often.
        metrics: counts what this process does.
        parquet: makes Parquet files.
        stopping: set once it takes no more requests than those it has.
    """

    settings: ServerSettings
    clock: Clock
    database: Database
    readers: Database
    devices: Devices
    horizon: Horizon
    authenticator: Authenticator
    ingest: Ingest
    room: Room
    slow_bodies: SlowBodies
    latest: LatestReadings
    refresher: RollupRefresher
    series: SeriesReader
    plant_series: PlantSeriesReader
    plant_keeper: PlantKeeper
    retention: Retention
    live: LiveHub
    guard: Guard
    metrics: Metrics
    parquet: ParquetFiles
    stopping: Event = field(default_factory=Event)

    @classmethod
    def from_settings(cls, settings: ServerSettings, clock: Clock = utc_now) -> Server:
        """Put the parts together; nothing is opened yet."""
        url = settings.database_url.get_secret_value()
        database = Database(url, size=settings.database_pool_size)
        readers = database.for_readers()
        devices = Devices(database)
        retention = timedelta(days=settings.raw_retention_days)
        horizon = Horizon(retention, clock)
        refresher = RollupRefresher(
            database,
            readers=readers,
            horizon=horizon,
            interval_s=settings.refresh_interval_s,
            clock=clock,
        )
        series = SeriesReader(readers, refresher, horizon=horizon, clock=clock)
        plant_series = PlantSeriesReader(
            series,
            TogetherReader(readers, series, clock=clock),
            MeterReader(readers, clock=clock),
            clock=clock,
        )
        tokens = parse_device_tokens(settings.device_tokens.get_secret_value())
        authenticator = Authenticator(database, tokens)
        metrics = Metrics(database)
        return cls(
            settings=settings,
            clock=clock,
            database=database,
            readers=readers,
            devices=devices,
            horizon=horizon,
            authenticator=authenticator,
            ingest=Ingest(database, devices, horizon=horizon, clock=clock),
            room=Room(),
            slow_bodies=SlowBodies(settings.max_request_bytes),
            latest=LatestReadings(database, clock=clock),
            refresher=refresher,
            series=series,
            plant_series=plant_series,
            plant_keeper=PlantKeeper(readers, devices, plant_series, clock=clock),
            retention=Retention(database, retention=retention, clock=clock),
            live=LiveHub(database, ArrivalChannel(url), authenticator, clock=clock, opened=metrics.streams),
            guard=Guard(settings.requests_per_minute, settings.failed_logins_per_minute, _shared_table()),
            metrics=metrics,
            parquet=ParquetFiles(),
        )


def _shared_table() -> SharedTable | None:
    """Where worker processes count requests together, None when there is only this one."""
    folder = os.environ.get(SHARED_FOLDER)
    return SharedTable(Path(folder, "requests")) if folder else None


NOBODY: Final = Principal(frozenset(), frozenset())
"""Who asks where no token is needed."""
