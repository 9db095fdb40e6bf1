"""The Bulk Data Access protocol: from kick-off to the manifest, and the export as a whole."""
