"""Reads Sungrow inverters over Modbus TCP without ever hurting the dongle."""
