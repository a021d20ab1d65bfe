"""Writes networks as Lava bundles: self-contained folders that a Lava process without snndeploy can run."""

from snndeploy.export.lava.bundle import export
from snndeploy.export.lava.manifest import FORMAT, MANIFEST, VERSION, Form, checksum

__all__ = ["FORMAT", "MANIFEST", "VERSION", "Form", "checksum", "export"]
