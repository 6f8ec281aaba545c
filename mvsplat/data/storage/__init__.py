"""Files wherever they are: local, or at an address of object storage and kept in a local cache."""

from mvsplat.data.storage.addresses import Address, Location, location
from mvsplat.data.storage.cache import FileCache

__all__ = ["Address", "FileCache", "Location", "location"]
