"""Run the graph under Prefect: flows, tasks, server, worker, dead runs. Only this package imports Prefect."""
