"""A thin app: poller, normalizer, spool and uploader wired into one daemon."""
