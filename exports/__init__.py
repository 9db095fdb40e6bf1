"""FHIR in: the Bulk Data client, the landing zone and the sandbox EHR."""
