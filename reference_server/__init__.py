"""The reference server: ingest, realtime, series, live stream, dashboard."""
