"""AWS as the packager uses it: signed requests, credentials, one bucket, one queue."""
