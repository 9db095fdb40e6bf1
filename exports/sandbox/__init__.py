"""The sandbox EHR: a synthetic hospital and the Bulk Data server that serves it."""
