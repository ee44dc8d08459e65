"""Delivery of spooled readings to a server."""

from sungrow_lib.upload.settings import UploadSettings
from sungrow_lib.upload.status import Alarm, ConnectionState, UploadStatus
from sungrow_lib.upload.uploader import BatchUploader

__all__ = ["Alarm", "BatchUploader", "ConnectionState", "UploadSettings", "UploadStatus"]
