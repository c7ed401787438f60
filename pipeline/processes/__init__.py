"""Start and end processes, hide secrets in their output, and explain failures. Nothing here knows DVC or Prefect."""
