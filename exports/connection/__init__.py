"""A FHIR server reached: origins, logins, tokens, and requests sent with patience."""
