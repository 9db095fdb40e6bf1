"""FHIR search instead of a bulk export: for a server that has no `$export`."""
