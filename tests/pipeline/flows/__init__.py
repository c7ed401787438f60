"""Tests of the flows: one real Prefect server and worker for the session, toy graphs whose stages cost little."""
