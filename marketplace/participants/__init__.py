"""Participants: enrolment by one-time code, API keys, and who may do what."""
