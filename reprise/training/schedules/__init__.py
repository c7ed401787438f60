"""Learning-rate schedules, one a file, looked up by file name: `train.schedule.name`. Never the warm-up."""
