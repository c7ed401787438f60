"""Decide when stages run, with DVC and Prefect. Stages run as processes; nothing here imports torch or a stage."""
