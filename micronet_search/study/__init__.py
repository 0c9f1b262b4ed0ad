"""The search that a sweep starts: created or resumed, driven, told and recorded."""
