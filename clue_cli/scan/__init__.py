"""The flow of a scan, from evidence to records."""
