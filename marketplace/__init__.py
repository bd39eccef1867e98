"""The service: catalogue, agreements, jobs, settlement."""
