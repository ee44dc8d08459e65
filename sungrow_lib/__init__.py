"""Typed access to Sungrow inverters."""
