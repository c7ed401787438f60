"""Stages `models` and `train_models`: weights from elsewhere, converted; models that are no backbones, trained here."""
