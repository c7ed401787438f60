"""Prefect: flows, tasks, server, worker, clean-up of dead runs. Only here prefect is imported."""
