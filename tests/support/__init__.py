"""What tests have in common: servers, processes and builders. No tests here."""
