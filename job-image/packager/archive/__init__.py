"""The archive: where it is read from, the ZIP format, and how its members are unpacked."""
