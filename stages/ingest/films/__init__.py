"""Films become frames: decoded in processes of their own, one film a process at a time. Never what folders mean."""
