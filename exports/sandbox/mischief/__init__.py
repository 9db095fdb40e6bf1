"""What real servers get wrong, done on purpose: acts by name, between the client and the app."""
