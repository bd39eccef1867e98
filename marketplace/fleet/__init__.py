"""Nodes of the deployed way to run: their enrolment, their signs of life, and their way in."""
