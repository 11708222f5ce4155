"""Stand-ins for the services that cannot run here. None imports product code: two mistakes cannot cancel out."""
